package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// readKeys returns the keys typed at a terminal, one at a time and without
// echo, and what puts the terminal back. Ctrl-C stays a signal. What is not a
// terminal types nothing.
func readKeys(terminal int) (keys <-chan byte, restore func()) {
	before, err := unix.IoctlGetTermios(terminal, unix.TCGETS)
	if err != nil {
		return nil, func() {}
	}
	single := *before
	single.Lflag &^= unix.ICANON | unix.ECHO
	single.Cc[unix.VMIN], single.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(terminal, unix.TCSETS, &single); err != nil {
		return nil, func() {}
	}
	typed := make(chan byte)
	go func() { // ends with the program
		var b [1]byte
		for {
			if n, err := os.Stdin.Read(b[:]); err != nil || n == 0 {
				return
			}
			typed <- b[0]
		}
	}()
	return typed, func() { _ = unix.IoctlSetTermios(terminal, unix.TCSETS, before) }
}
