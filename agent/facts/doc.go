// Package facts finds out about the machine that an agent runs on: who it is,
// which services are on its disk, where it is reached and how busy it is. It
// reads files, /proc and /sys, and nothing else; it keeps no goroutine.
//
// It decides nothing and publishes nothing. Only the agent imports it, and
// calls it from its one loop.
package facts
