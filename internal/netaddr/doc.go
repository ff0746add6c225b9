// Package netaddr is under way.
package netaddr
