// Package procfs reads what Linux shows of processes in /proc: which there are, what
// proc_pid_stat(5) says of one, its environment and its control group.
//
// A process may end between two reads, and its number may be used again: whoever needs
// to know compares Stat.Started. What belongs to other users can be closed to a process
// that is not root. Package procfs decides nothing and signals nobody.
package procfs

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// FS is a folder like /proc.
type FS string

// Root is the one of this machine.
const Root FS = "/proc"

// TicksPerSecond is USER_HZ, the unit of Stat's times: 100 on every Linux that Go runs
// on.
const TicksPerSecond = 100

// Stat is what is read of /proc/<pid>/stat. Times are in ticks, see TicksPerSecond.
type Stat struct {
	PID, Parent int
	// Group is the process group.
	Group int
	// Ended is set for a process that has ended and was not reaped yet, a zombie.
	Ended bool
	// CPU is the processor time of the process, ChildCPU that of the children that it
	// waited for.
	CPU, ChildCPU uint64
	// Started is when it started, after the boot of the machine.
	Started uint64
	// Pages is the memory that it holds (the resident set).
	Pages uint64
}

// path returns the path of a file of a process.
func (f FS) path(pid int, file string) string {
	return string(f) + "/" + strconv.Itoa(pid) + "/" + file
}

// PIDs lists the numbers of all processes.
func (f FS) PIDs() []int {
	d, err := os.Open(string(f))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	pids := make([]int, 0, len(names))
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Stat reads /proc/<pid>/stat. It returns false if there is no such process.
func (f FS) Stat(pid int) (Stat, bool) {
	b, err := os.ReadFile(f.path(pid, "stat"))
	if err != nil {
		return Stat{}, false
	}
	return ParseStat(b)
}

// The numbers of the fields of /proc/<pid>/stat that are read, and how many there are
// at least.
const (
	fieldState, fieldParent, fieldGroup   = 3, 4, 5
	fieldUserTime, fieldSystemTime        = 14, 15
	fieldChildUserTime, fieldChildSysTime = 16, 17
	fieldStarted, fieldPages              = 22, 24
)

// ParseStat parses the content of /proc/<pid>/stat. It returns false for anything
// else.
func ParseStat(content []byte) (s Stat, ok bool) {
	// The second field is the name of the program in parentheses, which may hold spaces
	// and parentheses: so the rest follows the last one.
	open, end := bytes.IndexByte(content, '('), bytes.LastIndexByte(content, ')')
	if open < 0 || end < open {
		return Stat{}, false
	}
	var err error
	if s.PID, err = strconv.Atoi(string(bytes.TrimSpace(content[:open]))); err != nil {
		return Stat{}, false
	}
	number := fieldState
	for field := range bytes.FieldsSeq(content[end+1:]) {
		if !s.set(number, field) {
			return Stat{}, false
		}
		if number == fieldPages {
			return s, true
		}
		number++
	}
	return Stat{}, false
}

// set sets what a field holds. It returns false if it is not of that field. A figure of
// what a process used is no reason to overlook the process: one that cannot be read is 0.
func (s *Stat) set(number int, field []byte) bool {
	var err error
	switch number {
	case fieldState:
		s.Ended = string(field) == "Z" || string(field) == "X"
	case fieldParent:
		s.Parent, err = strconv.Atoi(string(field))
	case fieldGroup:
		s.Group, err = strconv.Atoi(string(field))
	case fieldUserTime, fieldSystemTime:
		n, _ := strconv.ParseUint(string(field), 10, 64)
		s.CPU += n
	case fieldChildUserTime, fieldChildSysTime:
		n, _ := strconv.ParseUint(string(field), 10, 64)
		s.ChildCPU += n
	case fieldStarted:
		s.Started, err = strconv.ParseUint(string(field), 10, 64)
	case fieldPages:
		s.Pages, _ = strconv.ParseUint(string(field), 10, 64)
	}
	return err == nil
}

// Environ returns the environment that a process was started with; none if it is closed
// or the process ended.
func (f FS) Environ(pid int) []string { return f.list(pid, "environ") }

// Args returns the command line of a process.
func (f FS) Args(pid int) []string { return f.list(pid, "cmdline") }

// list reads a file of a process that is a list of strings.
func (f FS) list(pid int, file string) []string {
	b, err := os.ReadFile(f.path(pid, file))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// Variable returns the value of a variable in an environment, "" where it is not set.
func Variable(environ []string, name string) string {
	for _, e := range environ {
		if value, ok := strings.CutPrefix(e, name); ok && strings.HasPrefix(value, "=") {
			return value[1:]
		}
	}
	return ""
}

// Cgroup returns the path of a process's control group of version 2, below CgroupMount.
// It returns false if there is none.
func (f FS) Cgroup(pid int) (path string, ok bool) {
	b, err := os.ReadFile(f.path(pid, "cgroup"))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, true
		}
	}
	return "", false
}

// CgroupMount returns where the file system of control groups of version 2 is mounted
// whole. It returns false if it is not.
func (f FS) CgroupMount() (dir string, ok bool) {
	b, err := os.ReadFile(string(f) + "/self/mountinfo")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			return fields[4], true
		}
	}
	return "", false
}

// Uptime returns for how many seconds the machine has run; 0 if it is unknown.
func (f FS) Uptime() float64 {
	b, err := os.ReadFile(string(f) + "/uptime")
	if err != nil {
		return 0
	}
	seconds, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(seconds, 64)
	return v
}
