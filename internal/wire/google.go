package wire

// The numbers of the messages that the versions 9P2000.L.Google.N add:
// walkgetattr from N = 2, the four creations with a user from N = 3.
const (
	TypeTflushf      uint8 = 124
	TypeRflushf      uint8 = 125
	TypeTwalkgetattr uint8 = 126
	TypeRwalkgetattr uint8 = 127
	TypeTucreate     uint8 = 128
	TypeRucreate     uint8 = 129
	TypeTumkdir      uint8 = 130
	TypeRumkdir      uint8 = 131
	TypeTumknod      uint8 = 132
	TypeRumknod      uint8 = 133
	TypeTusymlink    uint8 = 134
	TypeRusymlink    uint8 = 135
)

// VersionGoogle is what precedes the number in Google's version strings.
const VersionGoogle = "9P2000.L.Google."

// Tflushf asks that what Fid's file has in buffers be written.
type Tflushf struct{ Fid uint32 }

// Rflushf answers Tflushf.
type Rflushf struct{}

// Twalkgetattr is Twalk, and Tgetattr of where it comes out.
type Twalkgetattr struct {
	Fid, NewFid uint32
	Names       []string
}

// Rwalkgetattr answers Twalkgetattr. Attr.QID and Attr.Flags are not carried.
type Rwalkgetattr struct {
	Valid uint64 `trace:"hex"`
	Attr  Attr
	QIDs  []QID
}

// Tucreate is Tlcreate as the user UID.
type Tucreate struct {
	Tlcreate
	UID uint32
}

// Rucreate answers Tucreate.
type Rucreate struct{ Rlcreate }

// Tumkdir is Tmkdir as the user UID.
type Tumkdir struct {
	Tmkdir
	UID uint32
}

// Rumkdir answers Tumkdir.
type Rumkdir struct{ Rmkdir }

// Tumknod is Tmknod as the user UID.
type Tumknod struct {
	Tmknod
	UID uint32
}

// Rumknod answers Tumknod.
type Rumknod struct{ Rmknod }

// Tusymlink is Tsymlink as the user UID.
type Tusymlink struct {
	Tsymlink
	UID uint32
}

// Rusymlink answers Tusymlink.
type Rusymlink struct{ Rsymlink }
