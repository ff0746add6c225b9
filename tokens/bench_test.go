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
