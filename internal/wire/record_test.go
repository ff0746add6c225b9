package wire

import (
	"reflect"
	"testing"

	"echo9/internal/cut"

	"pgregory.net/rapid"
)

func TestRecordsOutsideMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRecord(t), drawRecord(t)
		p := append(AppendRecordHead(nil, &a), RecordTail(&a)...)
		if len(p) != RecordSize(&a) {
			t.Fatalf("%d bytes, its size is %d", len(p), RecordSize(&a))
		}
		whole := len(p)
		p = append(AppendRecordHead(p, &b), RecordTail(&b)...)
		var ga, gb cut.Record
		rest, err := DecodeRecord(p, &ga)
		if err != nil || len(rest) != len(p)-whole {
			t.Fatalf("%d bytes are left, %v", len(rest), err)
		}
		if rest, err = DecodeRecord(rest, &gb); err != nil || len(rest) != 0 {
			t.Fatalf("%d bytes are left, %v", len(rest), err)
		}
		if !reflect.DeepEqual([]cut.Record{a, b}, []cut.Record{ga, gb}) {
			t.Fatalf("put %+v %+v\n got %+v %+v", a, b, ga, gb)
		}
		cutOff := rapid.IntRange(0, whole-1).Draw(t, "cut off at")
		if _, err := DecodeRecord(p[:cutOff], new(cut.Record)); err == nil {
			t.Fatalf("%d of %d bytes are a record", cutOff, whole)
		}
	})
}
