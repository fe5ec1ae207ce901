package engine

import "unsafe"

// SharedMemory returns what is counted for more than one.
func SharedMemory(e *Engine) int64 { return e.memory.shared.Load() }

// What each client takes, in bytes.
const (
	SizeOfConn    = unsafe.Sizeof(conn{})
	SizeOfSession = unsafe.Sizeof(session{})
)
