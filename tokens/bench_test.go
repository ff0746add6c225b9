package tokens

import "testing"

// BenchmarkPlainRead is what every plain operation pays: a request and its Done, nobody in the way.
func BenchmarkPlainRead(b *testing.B) {
	for name, held := range map[string]bool{"fresh": false, "busy": true} {
		b.Run(name, func(b *testing.B) {
			m := NewManager(Config{}, 0)
			if held {
				m.Step(0, Input{Kind: InRequest, Req: 1 << 60, Elems: []Elem{{ID: 7, Mode: Read}}})
			}
			elems := []Elem{{ID: 7, Mode: Read}}
			b.ReportAllocs()
			for i := range b.N {
				m.Step(int64(i), Input{Kind: InRequest, Req: ReqID(i), Elems: elems})
				m.Step(int64(i), Input{Kind: InDone, Req: ReqID(i)})
			}
		})
	}
}

// BenchmarkHotObject is one write of an object for which a thousand others wait.
func BenchmarkHotObject(b *testing.B) {
	m := NewManager(Config{}, 0)
	elems := []Elem{{ID: 7, Mode: Write}}
	for i := range 1000 {
		m.Step(0, Input{Kind: InRequest, Req: ReqID(i), Elems: elems})
	}
	b.ReportAllocs()
	for i := range b.N {
		m.Step(0, Input{Kind: InDone, Req: ReqID(i)})
		m.Step(0, Input{Kind: InRequest, Req: ReqID(i + 1000), Elems: elems})
	}
}

// BenchmarkCrowd is a session with a thousand requests behind another's token that goes away
// and comes back, and the same with each request flushed.
func BenchmarkCrowd(b *testing.B) {
	for _, name := range []string{"flushes", "disconnects"} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				m, elems := crowd(rulesOff{}, 0), []Elem{{ID: 7, Mode: Write}}
				for i := range 1000 {
					m.Step(0, Input{Kind: InRequest, Session: 2, Req: ReqID(100 + i), Elems: elems})
				}
				if name == "disconnects" {
					m.Step(0, Input{Kind: InDisconnected, Session: 2})
				} else {
					for i := range 1000 {
						m.Step(0, Input{Kind: InCancel, Req: ReqID(100 + i)})
					}
				}
				if len(m.reqs) != 0 {
					b.Fatal(len(m.reqs), "requests are left")
				}
			}
		})
	}
}

// BenchmarkTokens is a token asked for by one session and recalled from another.
func BenchmarkTokens(b *testing.B) {
	m := NewManager(Config{}, 0)
	for s := range SessionID(2) {
		m.Step(0, Input{Kind: InSessionOpen, Session: s + 1})
		m.Step(0, Input{Kind: InPosted, Session: s + 1, N: 1 << 40})
	}
	elems := []Elem{{ID: 7, Mode: Write}, {ID: 8, Mode: Read}}
	b.ReportAllocs()
	gen := Gen(0)
	for i := range b.N {
		me, other := SessionID(i%2+1), SessionID((i+1)%2+1)
		m.Step(0, Input{Kind: InRequest, Session: me, Req: ReqID(i), Elems: elems})
		if gen != 0 {
			m.Step(0, Input{Kind: InReturn, Session: other, ID: 7, Gen: gen})
		}
		gen = m.gen - 1
		m.Step(0, Input{Kind: InSent, Req: ReqID(i)})
	}
}
