// Package order is under way.
package order
