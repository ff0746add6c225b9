package netaddr

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// DefaultPort is the port of 9P over TCP.
const DefaultPort = 564

// The values of Addr.Net.
const (
	TCP   = "tcp"
	Unix  = "unix"
	Vsock = "vsock"
	FD    = "fd"
	Stdio = "stdio"
)

// AnyCID is the vsock context id of a listener that takes what comes from
// everywhere. HostCID is a guest's host, LocalCID the machine itself.
const (
	AnyCID   = 1<<32 - 1
	LocalCID = 1
	HostCID  = 2
)

// Addr is an address. Its fields besides Net mean something for their Net only.
type Addr struct {
	Net  string // TCP, Unix, Vsock, FD, Stdio
	Host string // TCP; "" is all addresses to listen at, this machine to dial
	Port uint32 // TCP, Vsock; TCP port 0 lets the system choose
	Path string // Unix: absolute, or @name in the abstract name space
	CID  uint32 // Vsock
	FD   int    // FD

	private bool // Path is in the user's own directory, which Listen makes
}

const notations = "use tcp!host!port, unix!/path, vsock!cid!port, fd!N or stdio"

// Parse takes an address in any notation.
func Parse(s string) (Addr, error) {
	a, err := parse(s)
	if err != nil {
		return Addr{}, fmt.Errorf("address %q: %w", s, err)
	}
	return a, nil
}

func parse(s string) (Addr, error) {
	switch {
	case s == "":
		return Addr{}, fmt.Errorf("it is empty: %s", notations)
	case strings.ContainsAny(s, "\x00\n"):
		return Addr{}, fmt.Errorf("it holds a control character: %s", notations)
	case s == Stdio || s == "stdio://":
		return Addr{Net: Stdio}, nil
	}
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		return parseURL(scheme, rest)
	}
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		return parsePath(rest)
	}
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") && strings.Contains(s, "/") {
		return parsePath(s)
	}
	if name, rest, ok := strings.Cut(s, "!"); ok {
		return parseDial(name, rest)
	}
	if strings.Contains(s, "/") {
		return parsePath(s)
	}
	return parseHostPort(s)
}

func parseURL(scheme, rest string) (Addr, error) {
	switch scheme {
	case TCP:
		return parseHostPort(strings.TrimSuffix(rest, "/"))
	case Unix:
		if !strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "@") {
			return Addr{}, fmt.Errorf("its path is not absolute: write unix:///%s or unix!%s", rest, rest)
		}
		return parsePath(rest)
	case Vsock:
		cid, port, ok := strings.Cut(rest, ":")
		if !ok {
			return Addr{}, fmt.Errorf("it lacks a port: write vsock://cid:port")
		}
		return parseVsock(cid, port)
	case FD:
		return parseFD(rest)
	}
	return Addr{}, fmt.Errorf("unknown scheme %q: %s", scheme, notations)
}

func parseDial(name, rest string) (Addr, error) {
	switch name {
	case TCP, "net":
		host, port, ok := strings.Cut(rest, "!")
		if !ok {
			port = strconv.Itoa(DefaultPort)
		}
		return parseTCP(host, port)
	case Unix:
		return parsePath(rest)
	case Vsock:
		cid, port, ok := strings.Cut(rest, "!")
		if !ok {
			return Addr{}, fmt.Errorf("it lacks a port: write vsock!cid!port")
		}
		return parseVsock(cid, port)
	case FD:
		return parseFD(rest)
	}
	return Addr{}, fmt.Errorf("unknown network %q: %s", name, notations)
}

// parseHostPort takes host, host:port, [v6]:port and a bare v6.
func parseHostPort(s string) (Addr, error) {
	port := strconv.Itoa(DefaultPort)
	host := s
	if strings.Count(s, ":") == 1 || strings.HasPrefix(s, "[") && strings.Contains(s, "]:") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return Addr{}, fmt.Errorf("it is no host:port: %s", notations)
		}
	}
	return parseTCP(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), port)
}

func parseTCP(host, port string) (Addr, error) {
	if host == "*" {
		host = ""
	}
	if strings.ContainsAny(host, " /!*[]") || strings.Contains(host, ":") && net.ParseIP(withoutZone(host)) == nil {
		return Addr{}, fmt.Errorf("%q is no host: %s", host, notations)
	}
	if port == "9pfs" || port == "9fs" {
		port = strconv.Itoa(DefaultPort)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Addr{}, fmt.Errorf("%q is no port: a number up to 65535", port)
	}
	return Addr{Net: TCP, Host: host, Port: uint32(n)}, nil
}

func withoutZone(ip string) string {
	ip, _, _ = strings.Cut(ip, "%")
	return ip
}

// maxPath is what fits a sockaddr_un, with its final NUL.
const maxPath = 107

func parsePath(p string) (Addr, error) {
	if p == "" || p == "@" {
		return Addr{}, fmt.Errorf("it lacks the socket's path: write unix!/path")
	}
	if p[0] != '@' {
		if strings.HasSuffix(p, "/") {
			return Addr{}, fmt.Errorf("its path names a directory: add the socket's name")
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return Addr{}, err
		}
		if p = abs; p == "/" {
			return Addr{}, fmt.Errorf("its path is the root directory: add the socket's name")
		}
	}
	if len(p) > maxPath {
		return Addr{}, fmt.Errorf("its path of %d bytes is too long for a socket: choose one of at most %d", len(p), maxPath)
	}
	return Addr{Net: Unix, Path: p}, nil
}

func parseVsock(cid, port string) (Addr, error) {
	a := Addr{Net: Vsock}
	switch cid {
	case "*", "":
		a.CID = AnyCID
	case "host":
		a.CID = HostCID
	case "local":
		a.CID = LocalCID
	default:
		n, err := strconv.ParseUint(cid, 10, 32)
		if err != nil {
			return Addr{}, fmt.Errorf("%q is no context id: a number, host, local, or * to listen", cid)
		}
		a.CID = uint32(n)
	}
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return Addr{}, fmt.Errorf("%q is no vsock port: a number of 32 bits", port)
	}
	a.Port = uint32(n)
	return a, nil
}

func parseFD(s string) (Addr, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return Addr{}, fmt.Errorf("%q is no descriptor: a small number", s)
	}
	return Addr{Net: FD, FD: int(n)}, nil
}

// String is the address in the notation that pastes best: shells leave it alone,
// and Parse takes it.
func (a Addr) String() string {
	switch a.Net {
	case TCP:
		return "tcp://" + net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
	case Unix:
		return "unix://" + a.Path
	case Vsock:
		cid := strconv.FormatUint(uint64(a.CID), 10)
		if a.CID == AnyCID {
			cid = ""
		}
		return "vsock://" + cid + ":" + strconv.FormatUint(uint64(a.Port), 10)
	case FD:
		return "fd://" + strconv.Itoa(a.FD)
	}
	return a.Net
}

// IsLocal tells whether only this machine's processes can come by the address.
func (a Addr) IsLocal() bool {
	if a.Net != TCP {
		return a.Net != Vsock || a.CID == LocalCID
	}
	ip := net.ParseIP(withoutZone(a.Host))
	return a.Host == "localhost" || ip != nil && ip.IsLoopback()
}

// Of is the address that a listener or a connection has, for people to paste.
func Of(n net.Addr) Addr {
	switch n := n.(type) {
	case *net.TCPAddr:
		host := n.IP.String()
		if n.IP == nil || n.IP.IsUnspecified() {
			host = ""
		} else if n.Zone != "" {
			host += "%" + n.Zone
		}
		return Addr{Net: TCP, Host: host, Port: uint32(n.Port)}
	case *net.UnixAddr:
		return Addr{Net: Unix, Path: n.Name}
	case Addr:
		return n
	}
	return Addr{Net: n.Network()}
}

// Network makes Addr a net.Addr.
func (a Addr) Network() string { return a.Net }
