package engine

// SharedMemory returns what is counted for more than one.
func SharedMemory(e *Engine) int64 { return e.memory.shared.Load() }
