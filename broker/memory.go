package broker

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryLimit is what clients may make the broker hold where the configuration
// names no number: a quarter of the machine's memory or of what the control
// group may have, whichever is less. 0, no limit, where neither can be read.
func memoryLimit(root string) int {
	least := uint64(math.MaxUint64)
	for _, n := range append(controlGroupMemory(root), machineMemory(root)) {
		if n > 0 {
			least = min(least, n)
		}
	}
	if least == math.MaxUint64 {
		return 0
	}
	return int(min(least/4, math.MaxInt))
}

// machineMemory returns the bytes of memory that the machine has; 0: unknown.
func machineMemory(root string) uint64 {
	b, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemTotal:")); ok {
			kilobytes, _, _ := strings.Cut(strings.TrimSpace(string(rest)), " ")
			n, _ := strconv.ParseUint(kilobytes, 10, 64) // 0 where it is none
			return n << 10
		}
	}
	return 0
}

// controlGroupMemory returns the limits of this process's control group and of
// those above it, of version 2 and of version 1.
func controlGroupMemory(root string) (all []uint64) {
	b, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(b) {
		fields := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(fields) < 3 {
			continue
		}
		base, file := "sys/fs/cgroup", "memory.max"
		if fields[1] != "" { // version 1
			if fields[1] != "memory" {
				continue
			}
			base, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for dir := filepath.Clean("/" + fields[2]); ; dir = filepath.Dir(dir) {
			if b, err := os.ReadFile(filepath.Join(root, base, dir, file)); err == nil {
				n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // "max" is no number
				all = append(all, n)
			}
			if dir == "/" {
				break
			}
		}
	}
	return all
}
