// Package netaddr is where servers are: it parses addresses in every notation
// that echo9 takes, listens at them, and dials them.
//
//	tcp!host!port  tcp://host:port  host:port  host     port 564 unless said; host * or none: all, to listen
//	unix!/path     unix:///path     /path      ./path   anything with a slash is a socket's path
//	vsock!cid!port vsock://cid:port
//	fd!3           fd://3                               a descriptor that was inherited: a socket, listening or connected, or a pipe
//	stdio                                               standard input and output as one connection
//
// # Promises
//
// A unix socket is private: mode 0600 from the moment it exists. A socket file
// that a dead server left is replaced; one whose server lives is not. Errors
// wrap the system's and say what to do next.
//
// This package never looks at what goes over a connection.
package netaddr
