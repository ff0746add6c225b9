// Package p9client is under way.
package p9client
