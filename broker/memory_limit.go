package broker

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryLimit returns the default of Limits.Memory: a quarter of the memory of the
// machine or of the control group, whichever is less. 0, no limit, if neither can be
// read.
func memoryLimit(root string) int {
	limit := uint64(math.MaxUint64)
	for _, n := range append(controlGroupMemory(root), machineMemory(root)) {
		if n > 0 {
			limit = min(limit, n)
		}
	}
	if limit == math.MaxUint64 {
		return 0
	}
	return int(min(limit/4, math.MaxInt))
}

// machineMemory returns the memory of the machine in bytes; 0: unknown.
func machineMemory(root string) uint64 {
	b, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemTotal:")); ok {
			kilobytes, _, _ := strings.Cut(strings.TrimSpace(string(rest)), " ")
			n, _ := strconv.ParseUint(kilobytes, 10, 64) // 0 if it is not a number
			return n << 10
		}
	}
	return 0
}

// controlGroupMemory returns the limits of the process's control group and of its
// parents, of version 2 and of version 1.
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
				n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // 0 for "max"
				all = append(all, n)
			}
			if dir == "/" {
				break
			}
		}
	}
	return all
}
