package tokens

// Mode is how a token is held.
type Mode uint8

// The modes, in rising order: each allows all that the ones before it allow.
const (
	None  Mode = 0
	Read  Mode = 1
	Write Mode = 2
)

// String is one letter: - r w.
func (m Mode) String() string {
	if int(m) < len(modeLetters) {
		return modeLetters[m : m+1]
	}
	return "?"
}

const modeLetters = "-rw"

// conflict says which modes two parties cannot have on one object at one time.
var conflict = [3][3]bool{
	None:  {None: false, Read: false, Write: false},
	Read:  {None: false, Read: false, Write: true},
	Write: {None: false, Read: true, Write: true},
}

// keepFor is what a holder may keep beside somebody who has the mode: the
// highest mode that does not conflict with it.
var keepFor = [3]Mode{None: Write, Read: Read, Write: None}

// raise is what a party has after a grant: raise[have][granted].
var raise = [3][3]Mode{
	None:  {None: None, Read: Read, Write: Write},
	Read:  {None: Read, Read: Read, Write: Write},
	Write: {None: Write, Read: Write, Write: Write},
}

// leave is what a party has after a return or a loss: leave[have][kept]. Nobody
// gets more by giving back.
var leave = [3][3]Mode{
	None:  {None: None, Read: None, Write: None},
	Read:  {None: None, Read: Read, Write: Read},
	Write: {None: None, Read: Read, Write: Write},
}

// Conflict reports whether two parties cannot have a and b on one object at one time.
func Conflict(a, b Mode) bool { return conflict[a][b] }
