package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/procfs"
)

// cgroups gives each life a control group of its own (cgroups(7), version 2
// alone), below the agent's: whatever a service starts stays in it, also what
// makes a session of its own and forgets its environment. No controller is
// enabled in them: the kernel wants groups with controllers to have processes
// in their leaves only, and the agent lives above, where systemd put it.
//
// A group is one life's alone, by its name, and only what has such a name is
// ever touched.
type cgroups struct {
	// base is the directory of this domain's lives; "": there are none.
	base string
}

// newCgroups makes the directory of a domain's lives, or returns why there is
// none.
func newCgroups(domain string) (cgroups, error) {
	own, err := ownCgroup()
	if err != nil {
		return cgroups{}, err
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(domain))
	base := filepath.Join(own, fmt.Sprintf("dominion-%016x", h.Sum64()))
	if err := os.Mkdir(base, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return cgroups{}, err
	}
	return cgroups{base}, nil
}

// ownCgroup finds the directory of the group that the agent is in, if it may
// make others there.
func ownCgroup() (string, error) {
	mount, ok := procfs.Root.CgroupMount()
	if !ok {
		return "", errors.New("there are no control groups of version 2")
	}
	path, ok := procfs.Root.Cgroup(os.Getpid())
	if !ok || strings.HasPrefix(path, "/..") {
		return "", errors.New("the agent's own group is out of sight")
	}
	dir := filepath.Join(mount, path)
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return "", err
	}
	if !slices.Contains(strings.Fields(string(b)), strconv.Itoa(os.Getpid())) {
		return "", fmt.Errorf("the agent is not in %s", dir)
	}
	// Where systemd rules, only what it gave away may be changed.
	if _, err := os.Stat("/run/systemd/system"); err == nil && path != "/" && !delegated(mount, dir) {
		return "", fmt.Errorf("%s is systemd's own (write Delegate=yes into the agent's unit)", dir)
	}
	return dir, nil
}

// delegated looks for the mark of systemd's Delegate=yes.
func delegated(mount, dir string) bool {
	for ; strings.HasPrefix(dir, mount+"/"); dir = filepath.Dir(dir) {
		for _, mark := range []string{"user.delegate", "trusted.delegate"} {
			b := make([]byte, 1)
			if n, err := unix.Getxattr(dir, mark, b); err == nil && n == 1 && b[0] == '1' {
				return true
			}
		}
	}
	return false
}

// make makes the group of a life; "": it has none.
func (c cgroups) make(service, token string) string {
	if c.base == "" || token == "" {
		return ""
	}
	dir := filepath.Join(c.base, service+"@"+token)
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) { // another agent of this domain's ended, and took the base along
		_ = os.Mkdir(c.base, 0o755)
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return ""
	}
	return dir
}

// unclaimed lists the control groups of lives that were not adopted.
func (c cgroups) unclaimed(adopted []Group) []string {
	entries, err := os.ReadDir(c.base)
	if err != nil {
		return nil
	}
	var all []string
	for _, e := range entries {
		dir := filepath.Join(c.base, e.Name())
		if e.IsDir() && strings.Contains(e.Name(), "@") && !slices.ContainsFunc(adopted, func(g Group) bool { return g.Cgroup == dir }) {
			all = append(all, dir)
		}
	}
	return all
}

func (c cgroups) close() {
	if c.base != "" {
		_ = os.Remove(c.base) // if nothing is left in it
	}
}

// isCgroupOf reports whether dir can be the control group that a life had.
func isCgroupOf(dir, token string) bool {
	if token == "" || !strings.HasSuffix(dir, "@"+token) || !strings.HasPrefix(filepath.Base(filepath.Dir(dir)), "dominion-") {
		return false
	}
	var info unix.Statfs_t
	return unix.Statfs(dir, &info) == nil && info.Type == unix.CGROUP2_SUPER_MAGIC
}

// cgroupOfLife finds the control group of a life by one of its processes.
func cgroupOfLife(pid int, token string) string {
	mount, ok := procfs.Root.CgroupMount()
	if !ok {
		return ""
	}
	path, ok := procfs.Root.Cgroup(pid)
	if !ok {
		return ""
	}
	for dir := filepath.Join(mount, path); strings.HasPrefix(dir, mount+"/"); dir = filepath.Dir(dir) {
		if isCgroupOf(dir, token) { // or it is in a group that the service made below
			return dir
		}
	}
	return ""
}

// populated reports whether anything in a control group, or below it, lives. A
// zombie does not.
func populated(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	return err == nil && bytes.Contains(b, []byte("populated 1"))
}

// cgroupProcesses lists the processes of a control group and of those below it,
// which the service made.
func cgroupProcesses(dir string) []int {
	var all []int
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil
		}
		b, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
				all = append(all, pid)
			}
		}
		return nil
	})
	return all
}

// signalCgroup signals all that is in a control group but the members of a
// process group, which were signalled as such.
func signalCgroup(dir string, s syscall.Signal, but int) {
	if s == syscall.SIGKILL && os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return // at once, so that no fork escapes (Linux 5.14)
	}
	for _, pid := range cgroupProcesses(dir) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it ended
		}
		// The descriptor cannot become another process between looking and
		// signalling.
		path, _ := procfs.Root.Cgroup(pid)
		if p, ok := procfs.Root.Stat(pid); ok && p.Group != but && strings.Contains(path+"/", "/"+filepath.Base(dir)+"/") {
			_ = unix.PidfdSendSignal(fd, s, nil, 0)
		}
		unix.Close(fd)
	}
}

// removeCgroup removes a control group in which nothing lives, with those that
// the service made below it.
func removeCgroup(dir string) {
	for range 50 {
		var dirs []string
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) { // the deepest first
			_ = syscall.Rmdir(d)
		}
		if _, err := os.Stat(dir); err != nil || populated(dir) {
			return
		}
		time.Sleep(2 * time.Millisecond) // the kernel is not done with what ended
	}
}
