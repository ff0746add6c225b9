package netaddr

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		in   string
		want Addr
		out  string // its canonical form; empty: in itself
	}{
		{"tcp!host!5640", Addr{Net: TCP, Host: "host", Port: 5640}, "tcp://host:5640"},
		{"tcp!host", Addr{Net: TCP, Host: "host", Port: 564}, "tcp://host:564"},
		{"net!host!9pfs", Addr{Net: TCP, Host: "host", Port: 564}, "tcp://host:564"},
		{"tcp!*!564", Addr{Net: TCP, Port: 564}, "tcp://:564"},
		{"tcp!*", Addr{Net: TCP, Port: 564}, "tcp://:564"},
		{"tcp!127.0.0.1!0", Addr{Net: TCP, Host: "127.0.0.1"}, "tcp://127.0.0.1:0"},
		{"tcp!::1!5640", Addr{Net: TCP, Host: "::1", Port: 5640}, "tcp://[::1]:5640"},
		{"tcp://127.0.0.1:5640", Addr{Net: TCP, Host: "127.0.0.1", Port: 5640}, ""},
		{"tcp://host", Addr{Net: TCP, Host: "host", Port: 564}, "tcp://host:564"},
		{"tcp://host/", Addr{Net: TCP, Host: "host", Port: 564}, "tcp://host:564"},
		{"tcp://[::1]:5640", Addr{Net: TCP, Host: "::1", Port: 5640}, ""},
		{"tcp://[fe80::1%eth0]:5640", Addr{Net: TCP, Host: "fe80::1%eth0", Port: 5640}, ""},
		{"tcp://[::1]", Addr{Net: TCP, Host: "::1", Port: 564}, "tcp://[::1]:564"},
		{"127.0.0.1:5640", Addr{Net: TCP, Host: "127.0.0.1", Port: 5640}, "tcp://127.0.0.1:5640"},
		{":5640", Addr{Net: TCP, Port: 5640}, "tcp://:5640"},
		{"host", Addr{Net: TCP, Host: "host", Port: 564}, "tcp://host:564"},
		{"files.example.org", Addr{Net: TCP, Host: "files.example.org", Port: 564}, "tcp://files.example.org:564"},
		{"::1", Addr{Net: TCP, Host: "::1", Port: 564}, "tcp://[::1]:564"},
		{"unix!/run/s", Addr{Net: Unix, Path: "/run/s"}, "unix:///run/s"},
		{"unix:///run/s", Addr{Net: Unix, Path: "/run/s"}, ""},
		{"unix:/run/s", Addr{Net: Unix, Path: "/run/s"}, "unix:///run/s"},
		{"unix!s", Addr{Net: Unix, Path: wd + "/s"}, "unix://" + wd + "/s"},
		{"unix!@name", Addr{Net: Unix, Path: "@name"}, "unix://@name"},
		{"unix://@name", Addr{Net: Unix, Path: "@name"}, ""},
		{"/run/s", Addr{Net: Unix, Path: "/run/s"}, "unix:///run/s"},
		{"/run/with!mark:and colon", Addr{Net: Unix, Path: "/run/with!mark:and colon"}, "unix:///run/with!mark:and colon"},
		{"./s", Addr{Net: Unix, Path: wd + "/s"}, "unix://" + wd + "/s"},
		{"../s", Addr{Net: Unix, Path: filepath.Dir(wd) + "/s"}, "unix://" + filepath.Dir(wd) + "/s"},
		{"a/s", Addr{Net: Unix, Path: wd + "/a/s"}, "unix://" + wd + "/a/s"},
		{"vsock!3!564", Addr{Net: Vsock, CID: 3, Port: 564}, "vsock://3:564"},
		{"vsock!host!564", Addr{Net: Vsock, CID: HostCID, Port: 564}, "vsock://2:564"},
		{"vsock!local!1", Addr{Net: Vsock, CID: LocalCID, Port: 1}, "vsock://1:1"},
		{"vsock!*!564", Addr{Net: Vsock, CID: AnyCID, Port: 564}, "vsock://:564"},
		{"vsock://2:564", Addr{Net: Vsock, CID: 2, Port: 564}, ""},
		{"fd!3", Addr{Net: FD, FD: 3}, "fd://3"},
		{"fd://3", Addr{Net: FD, FD: 3}, ""},
		{"stdio", Addr{Net: Stdio}, ""},
		{"stdio://", Addr{Net: Stdio}, "stdio"},
	} {
		got, err := Parse(test.in)
		if err != nil || got != test.want {
			t.Errorf("%q is %+v, %v", test.in, got, err)
			continue
		}
		if test.out == "" {
			test.out = test.in
		}
		if s := got.String(); s != test.out {
			t.Errorf("%q is written %q, not %q", test.in, s, test.out)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q, written %q, is %+v, %v", test.in, got, again, err)
		}
		if strings.ContainsAny(got.String(), "*$`\"'\\") {
			t.Errorf("%q does not paste", got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "it is empty: use tcp!host!port",
		"tcp!host!port":                     `"port" is no port`,
		"tcp!host!65536":                    "a number up to 65535",
		"tcp!host!5640!x":                   "is no port",
		"tcp!a b!1":                         `"a b" is no host`,
		"tcp!a:b!1":                         `"a:b" is no host`,
		"host:-1":                           "is no port",
		"gopher!host!1":                     `unknown network "gopher": use tcp!host!port`,
		"http://host":                       `unknown scheme "http"`,
		"unix!":                             "it lacks the socket's path",
		"unix!/run/":                        "add the socket's name",
		"unix://run/s":                      "write unix:///run/s or unix!run/s",
		"unix!/" + strings.Repeat("x", 107): "is too long for a socket: choose one of at most 107",
		"vsock!3":                           "write vsock!cid!port",
		"vsock://3":                         "write vsock://cid:port",
		"vsock!x!1":                         "is no context id",
		"vsock!1!x":                         "is no vsock port",
		"fd!x":                              "is no descriptor",
		"fd!-1":                             "is no descriptor",
		"/run/a\x00b":                       "a control character",
	} {
		a, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "address ") {
			t.Errorf("%q is %+v, %v; not %q", in, a, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"tcp!h!1", "unix!/p", "[::1]:1", "vsock!1!2", "fd!3", "h", "./x", "unix://@", "tcp://[%]:1", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(a.String()); err != nil || again != a {
			t.Fatalf("%q is %+v, written %q, which is %+v, %v", s, a, a, again, err)
		}
	})
}

func TestIsLocal(t *testing.T) {
	for s, want := range map[string]bool{
		"tcp!127.0.0.1!1": true, "tcp!::1!1": true, "tcp!localhost!1": true, "tcp!*!1": false, "tcp!10.0.0.1!1": false,
		"tcp!example.org!1": false, "/s": true, "fd!3": true, "stdio": true, "vsock!local!1": true, "vsock!*!1": false,
	} {
		if a, err := Parse(s); err != nil || a.IsLocal() != want {
			t.Errorf("%q is local: %v, %v", s, a.IsLocal(), err)
		}
	}
}

func TestOf(t *testing.T) {
	for _, test := range []struct {
		in   net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5}, "tcp://127.0.0.1:5"},
		{&net.TCPAddr{IP: net.IPv6zero, Port: 5}, "tcp://:5"},
		{&net.TCPAddr{Port: 5}, "tcp://:5"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 5}, "tcp://[fe80::1%eth0]:5"},
		{&net.UnixAddr{Net: "unix", Name: "/s"}, "unix:///s"},
		{Addr{Net: FD, FD: 4}, "fd://4"},
	} {
		if got := Of(test.in).String(); got != test.want {
			t.Errorf("%v is %q, not %q", test.in, got, test.want)
		}
	}
}
