//go:build arm || 386

package foreign

import "golang.org/x/sys/unix"

// setgroups takes groups of 32 bits.
const setgroups = unix.SYS_SETGROUPS32
