// Package fusefs is under way.
package fusefs
