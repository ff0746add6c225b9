// Package dirfs is under way.
package dirfs
