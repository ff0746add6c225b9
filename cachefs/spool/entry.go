package spool

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Cause is why operations are lost.
type Cause string

// The causes.
const (
	// Refused: the server will not do them, or what they need.
	Refused Cause = "refused"
	// Taken: the right to do them went to somebody else.
	Taken Cause = "taken"
	// Doubt: some were on their way when the server was heard of for the last time. They may be there.
	Doubt Cause = "in doubt"
	// Forgotten: the server does not know who was to do them any more.
	Forgotten Cause = "forgotten"
	// GivenUp: they were not sent, and nobody waits any longer until they can be.
	GivenUp Cause = "given up"
)

// Entry is one loss of one user.
type Entry struct {
	ID   string    `json:"id"`
	When time.Time `json:"when"`
	UID  uint32    `json:"uid"`
	// Server and Export are what was written to, Mount where that was mounted, Client who wrote.
	Server string `json:"server"`
	Export string `json:"export,omitempty"`
	Mount  string `json:"mount,omitempty"`
	Client string `json:"client"`
	Cause  Cause  `json:"cause"`
	Errno  int    `json:"errno,omitempty"`
	Reason string `json:"reason"`
	// Ops are what was lost, in the order in which it was done.
	Ops []Op `json:"ops"`
	// Objects are the files and directories that Ops were done to, as the writer saw them at last.
	Objects []Object `json:"objects"`
}

// Op is a lost operation.
type Op struct {
	Seq uint64 `json:"seq"`
	// What is create, write, rename, …: the kinds of package order.
	What   string `json:"what"`
	Paths  []Path `json:"paths"`
	Object uint64 `json:"object"`
	// Sent: it was on its way to the server, which may have done it.
	Sent bool `json:"sent,omitempty"`
	// Offset and Length are of data; Size is what a truncate sets.
	Offset uint64 `json:"offset,omitempty"`
	Length uint64 `json:"length,omitempty"`
	Size   uint64 `json:"size,omitempty"`
	// Xattr is the name of an extended attribute.
	Xattr Path `json:"xattr,omitempty"`
	// At is where the operation's Bytes bytes lie in the file "bytes".
	At    int64 `json:"at,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
	// Set says which attributes it set, by name.
	Set map[string]string `json:"set,omitempty"`

	// Data are the bytes, for Put.
	Data []byte `json:"-"`
}

// Object is a file or directory as the writer saw it.
type Object struct {
	ID   uint64 `json:"id"`
	Path Path   `json:"path"`
	// Type is file, directory, symlink or other.
	Type string `json:"type"`
	// Created: that it was created is lost, too. Moved: that it got its path is. Gone: it had no name any more.
	Created bool   `json:"created,omitempty"`
	Moved   bool   `json:"moved,omitempty"`
	Gone    bool   `json:"gone,omitempty"`
	Mode    uint32 `json:"mode"`
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Size    uint64 `json:"size"`
	Mtime   int64  `json:"mtime"`
	Target  Path   `json:"target,omitempty"`
	// Base is what the file at Path was without the lost operations: itself, or what it was to replace; nil for none, or not known.
	Base *Base `json:"base,omitempty"`
	// Content is the file with its whole content; "" when Ops make all of it, or it is not known.
	Content string `json:"content,omitempty"`

	// Pieces are the whole content, for Put; nil for none.
	Pieces []Piece `json:"-"`
}

// Base tells one state of a file from others.
type Base struct {
	Version uint64 `json:"version"` // DataVersion
	Ctime   int64  `json:"ctime"`
	Mtime   int64  `json:"mtime"`
	Size    uint64 `json:"size"`
}

// Piece is a part of a file's content. Nil bytes are zeros.
type Piece struct {
	Off   int64
	Len   int64
	Bytes []byte
}

// Weight is how much memory the bytes of an entry take.
func (e *Entry) Weight() int64 {
	var n int64
	for i := range e.Ops {
		n += int64(len(e.Ops[i].Data))
	}
	for i := range e.Objects {
		for _, p := range e.Objects[i].Pieces {
			n += int64(len(p.Bytes))
		}
	}
	return n
}

// Object gives the object with that id, or nil.
func (e *Entry) Object(id uint64) *Object {
	for i := range e.Objects {
		if e.Objects[i].ID == id {
			return &e.Objects[i]
		}
	}
	return nil
}

// Why says in words why the operations are lost.
func (e *Entry) Why() string {
	switch e.Cause {
	case Refused:
		return "refused: " + e.Reason
	case Doubt:
		return "in doubt, they may be at the server: " + e.Reason
	}
	return string(e.Cause) + ": " + e.Reason
}

// String is the operation as a line.
func (o *Op) String() string {
	names := make([]string, len(o.Paths))
	for i, p := range o.Paths {
		names[i] = p.Quoted()
	}
	where := strings.Join(names, " to ")
	var s string
	switch o.What {
	case "write", "allocate", "punch":
		s = fmt.Sprintf("%s %d bytes at %d of %s", o.What, o.Length, o.Offset, where)
	case "copy":
		s = fmt.Sprintf("copy %d bytes of %s at %d", o.Length, where, o.Offset)
	case "truncate":
		s = fmt.Sprintf("truncate %s to %d bytes", where, o.Size)
	case "setxattr", "removexattr":
		s = fmt.Sprintf("%s %s of %s", o.What, o.Xattr.Quoted(), where)
	default:
		s = o.What + " " + where
	}
	if o.Sent {
		s += " (it may have been done)"
	}
	return s
}

// Path is a name or path with any bytes in it. In JSON "%" and what is not UTF-8 stand as %XX.
type Path string

// MarshalText writes the path as JSON has it.
func (p Path) MarshalText() ([]byte, error) {
	var b strings.Builder
	for s := string(p); s != ""; {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || r == '%' {
			fmt.Fprintf(&b, "%%%02X", s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return []byte(b.String()), nil
}

// UnmarshalText reads it.
func (p *Path) UnmarshalText(text []byte) error {
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b = append(b, text[i])
			continue
		}
		if i+2 >= len(text) {
			return fmt.Errorf("%q ends within %%XX", text)
		}
		v, err := strconv.ParseUint(string(text[i+1:i+3]), 16, 8)
		if err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		b, i = append(b, byte(v)), i+2
	}
	*p = Path(b)
	return nil
}

// Quoted is the path for people: as it is, or quoted when it would not stand in a line as one word.
func (p Path) Quoted() string {
	if q := strconv.Quote(string(p)); len(q) != len(p)+2 || strings.ContainsRune(string(p), ' ') {
		return q
	}
	return string(p)
}
