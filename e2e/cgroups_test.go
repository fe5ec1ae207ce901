package e2e

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
)

// below is where an agent says that it makes control groups.
var below = regexp.MustCompile(`below=(/\S+/dominion-[0-9a-f]{16})$`)

// removeCgroups removes the control groups of agents that were killed for good:
// the machine of the tests has one tree of them, and no host's end takes it
// away. What lives in one keeps it.
func (h *Host) removeCgroups() {
	for _, p := range h.started {
		lines, _ := p.log.from(0)
		for _, line := range lines {
			if m := below.FindStringSubmatch(line); m != nil {
				removeTree(m[1])
			}
		}
	}
}

func removeTree(dir string) {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		_ = syscall.Rmdir(d)
	}
}
