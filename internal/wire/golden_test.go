package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const goldenFile = "testdata/golden.txt"

// The bytes of every message, each after its trace, in testdata/golden.txt. Who
// changes one of the extension's raises the number in ExtVersion; 9P2000.L's do not change.
func TestGolden(t *testing.T) {
	var b strings.Builder
	for _, typ := range all() {
		m := sample(typ)
		b.WriteString(Trace(3, m) + "\n")
		for p := AppendFrame(nil, 3, m); len(p) > 0; {
			n := min(len(p), 32)
			b.WriteString("\t" + hex.EncodeToString(p[:n]) + "\n")
			p = p[n:]
		}
	}
	if *update {
		if err := os.WriteFile(goldenFile, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range g {
			if i >= len(w) || g[i] != w[i] {
				t.Fatalf("line %d is\n%s\nand is not as in %s:\n%s", i+1, g[i], goldenFile, w[min(i, len(w)-1)])
			}
		}
		t.Fatalf("%s has more lines", goldenFile)
	}
}

// The golden bytes decode to the messages that they are said to be.
func TestGoldenDecodes(t *testing.T) {
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var frame []byte
	n := 0
	var line string
	check := func() {
		if frame == nil {
			return
		}
		n++
		h, body, err := NewReader(bytes.NewReader(frame), 1<<16).ReadFrame()
		if err != nil {
			t.Errorf("%s: %v", line, err)
			return
		}
		m := New(h.Type)
		if err := Decode(h.Type, body, m); err != nil {
			t.Error(err)
		}
		if got := Trace(h.Tag, m); got != line {
			t.Errorf("decoded\n%s\nof\n%s", got, line)
		}
		if !reflect.DeepEqual(m, sample(h.Type)) {
			t.Errorf("%s: not the message that was encoded", line)
		}
	}
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		if h, ok := strings.CutPrefix(l, "\t"); ok {
			p, err := hex.DecodeString(h)
			if err != nil {
				t.Fatal(err)
			}
			frame = append(frame, p...)
			continue
		}
		check()
		line, frame = l, nil
	}
	check()
	if n != len(all()) {
		t.Errorf("%d messages of %d", n, len(all()))
	}
}

func TestTraceFormat(t *testing.T) {
	for _, test := range []struct {
		tag  uint16
		m    Message
		want string
	}{
		{3, &Tlopen{Fid: 2}, `Tlopen tag 3 fid 2 flags 0x0`},
		{NoTag, &Tversion{Msize: 8192, Version: Version9P}, `Tversion tag notag msize 8192 version "9P2000.L"`},
		{1, &Tattach{Afid: NoFid, Uname: "a\nb", UID: NoUID}, `Tattach tag 1 fid 0 afid none uname "a\nb" aname "" uid none`},
		{1, &Twalk{Fid: 1, NewFid: 2, Names: []string{"usr", "a b"}}, `Twalk tag 1 fid 1 newfid 2 names ["usr" "a b"]`},
		{1, &Rwalk{QIDs: []QID{{QTDir, 7, 9}, {QTSymlink, 0, 1}, {0, 0, 3}}}, `Rwalk tag 1 qids [(9 7 d) (1 0 L) (3 0 f)]`},
		{1, &Rread{Data: []byte("0123456789012345678901234567890")}, `Rread tag 1 data 31 bytes "012345678901234567890123"…`},
		{1, &Rread{}, `Rread tag 1 data 0 bytes`},
		{1, &Tucreate{Tlcreate{Fid: 1, Name: "x", Flags: 0x41, Mode: 0o644, GID: 5}, 6}, `Tucreate tag 1 fid 1 name "x" flags 0x41 mode 0644 gid 5 uid 6`},
		{1, &Treturn{Tokens: []ReturnElem{{ID: 1, Gen: 2}}}, `Treturn tag 1 tokens [(id 1 gen 2 keep 0 flags 0)]`},
	} {
		if got := Trace(test.tag, test.m); got != test.want {
			t.Errorf("traced %s\nnot    %s", got, test.want)
		}
	}
	if s := Trace(1, &Tsession{Secret: [16]byte{0xab, 0xcd}}); strings.Contains(s, "abcd") || !strings.Contains(s, "secret …") {
		t.Errorf("a trace shows the secret: %s", s)
	}
}
