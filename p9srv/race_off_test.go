//go:build !race

package p9srv

const raceEnabled = false
