// Package tokens is under way.
package tokens
