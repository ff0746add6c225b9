// Package cachefs is under way.
package cachefs
