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

// Conflict reports whether two parties cannot have a and b on one object at one time.
func Conflict(a, b Mode) bool { return conflict[a][b] }
