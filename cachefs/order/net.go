package order

import "echo9/internal/cut"

// Operand is an object that a cut needs the token of.
type Operand struct {
	ID    uint64
	Write bool // else read
}

// Net is the net effect of an ideal.
type Net struct {
	// Records are final values; Ops[i] are the sequence numbers of the operations that Records[i] comes from.
	Records []cut.Record
	Ops     [][]uint64
	// Fence are the operands of the ideal, by ID, without objects that the cut creates.
	Fence []Operand
	// Bytes is the amount of data in Records.
	Bytes int64
}

// NetEffect gives the net effect of the operations of one cut (see Log.Take), in sequence.
// It may be called without the lock of their Log.
func NetEffect(ops []*Op) *Net { panic("order: being written") }
