//go:build !race

package ctl

// raceDetector reports whether the tests are built with the race detector.
const raceDetector = false
