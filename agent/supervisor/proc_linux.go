package supervisor

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/topics"
)

// process is a process according to /proc/<pid>/stat.
type process struct {
	pid     int
	group   int
	zombie  bool // ended, and not reaped yet
	started uint64
}

// readProcess reads /proc/<pid>/stat, proc(5). The second field is a name that
// may hold anything, so the rest is what follows the last parenthesis.
func readProcess(pid int) (process, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	return parseStat(pid, b)
}

// parseStat parses the content of /proc/<pid>/stat (proc(5)).
func parseStat(pid int, stat []byte) (process, bool) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const state, group, started = 0, 2, 19 // fields 3, 5 and 22
	if len(fields) <= started {
		return process{}, false
	}
	g, err := strconv.Atoi(fields[group])
	if err != nil {
		return process{}, false
	}
	at, err := strconv.ParseUint(fields[started], 10, 64)
	if err != nil {
		return process{}, false
	}
	dead := fields[state] == "Z" || fields[state] == "X"
	return process{pid: pid, group: g, zombie: dead, started: at}, true
}

// processes lists the numbers of all processes.
func processes() []int {
	d, err := os.Open("/proc")
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

// carries reports whether a process was started with DOMINION_INSTANCE=token.
func carries(pid int, token string) bool {
	return token != "" && slices.Contains(readList(pid, "environ"), "DOMINION_INSTANCE="+token)
}

// readList reads a file of /proc/<pid> that is a list of strings. Those of
// other users are closed to who is not root.
func readList(pid int, file string) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// startedFrom returns the id of the domain that started a process from a data_dir,
// whose services' data are in data, as its environment has it; "" where none did.
// In a container, which has a file system of its own, the same path is another
// directory.
func startedFrom(data string, pid int, environ []string) string {
	name := variable(environ, "SERVICE_NAME")
	if !topics.ValidName(name) || variable(environ, "SERVICE_DATA_DIR") != filepath.Join(data, name) {
		return ""
	}
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return ""
	}
	if ours, err := os.Stat("/"); err != nil || !os.SameFile(theirs, ours) {
		return ""
	}
	return variable(environ, "DOMAIN_UUID")
}

// lives looks through all processes for those that the agent of a domain started.
func lives(domain string) []Life {
	best := make(map[string]Life)
	first := make(map[string]process) // the process that the best life was found by
	for _, pid := range processes() {
		list := readList(pid, "environ")
		if pid == os.Getpid() || domain == "" || variable(list, "DOMAIN_UUID") != domain {
			continue
		}
		l := Life{Env: make(map[string]string, len(list)), Args: readList(pid, "cmdline")}
		for _, e := range list {
			k, v, _ := strings.Cut(e, "=")
			l.Env[k] = v
		}
		p, ok := readProcess(pid)
		if l.Token = l.Env["DOMINION_INSTANCE"]; l.Token == "" || !ok || p.zombie {
			continue
		}
		var info syscall.Stat_t
		if err := syscall.Stat(fmt.Sprintf("/proc/%d", pid), &info); err != nil {
			continue
		}
		l.UID = int(info.Uid)
		// A group whose living leader carries no token of ours is not ours.
		leader, there := readProcess(p.group)
		if pid == p.group || !there || leader.zombie {
			l.Group = Group{PID: p.group, Started: leader.started, Cgroup: cgroupOfLife(pid, l.Token)}
		}
		if before, seen := first[l.Token]; !seen || rank(p, l.Group) < rank(before, best[l.Token].Group) ||
			rank(p, l.Group) == rank(before, best[l.Token].Group) && p.started < before.started {
			best[l.Token], first[l.Token] = l, p
		}
	}
	all := make([]Life, 0, len(best))
	for _, token := range slices.Sorted(maps.Keys(best)) {
		all = append(all, best[token])
	}
	return all
}

// RunningDomain returns the id of the domain whose services run from a data_dir,
// as the environment of their processes has it, "" where none does. Processes of
// users that run no services are not believed.
func RunningDomain(dataDir, runAs string, allowRoot []string) string {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return ""
	}
	data := filepath.Join(dataDir, "data")
	for _, pid := range processes() {
		environ := readList(pid, "environ")
		id := startedFrom(data, pid, environ)
		var info syscall.Stat_t
		if id == "" || syscall.Stat(fmt.Sprintf("/proc/%d", pid), &info) != nil {
			continue
		}
		if (users{runAs, allowRoot}).mayRunAs(variable(environ, "SERVICE_NAME"), int(info.Uid)) {
			return id
		}
	}
	return ""
}

// rank orders the processes that a life may be found by: the leader of its group; what a
// leader left behind; what is in the group of another.
func rank(p process, g Group) int {
	switch g.PID {
	case p.pid:
		return 0
	case 0:
		return 2
	}
	return 1
}

// tokenProcesses lists the processes that carry a token and have not ended.
func tokenProcesses(token string) []int {
	var all []int
	for _, pid := range processes() {
		if carries(pid, token) { // the environment of a zombie is empty
			all = append(all, pid)
		}
	}
	return all
}

// signalTokenProcess signals a process if it carries the token: by a descriptor,
// which cannot become another process between looking and signalling.
func signalTokenProcess(pid int, token string, s syscall.Signal) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it ended
	}
	defer unix.Close(fd)
	if carries(pid, token) {
		_ = unix.PidfdSendSignal(fd, s, nil, 0)
	}
}

// members lists the processes of a group that have not ended.
func (g Group) members() []int {
	var all []int
	for _, pid := range processes() {
		if p, ok := readProcess(pid); ok && p.group == g.PID && !p.zombie {
			all = append(all, pid)
		}
	}
	return all
}

// empty reports whether nothing of the group is alive. A zombie is not: who
// should reap it may never do so, as PID 1 of many containers.
func (g Group) empty() bool {
	if syscall.Kill(-g.PID, 0) == syscall.ESRCH || g.foreign() {
		return true
	}
	return len(g.members()) == 0
}

// foreign reports whether the number of the group is another one's by now. The
// kernel gives no process the number of a group that has members, so a process
// with that number which is not the leader means that the group has ended.
func (g Group) foreign() bool {
	p, ok := readProcess(g.PID)
	return ok && p.started != g.Started
}

// tokenProcess finds a member of the group that carries the token.
func (g Group) tokenProcess(token string) (process, bool) {
	if g.PID <= 1 || g.foreign() {
		return process{}, false
	}
	for _, pid := range g.members() {
		if p, ok := readProcess(pid); ok && carries(pid, token) {
			return p, true
		}
	}
	return process{}, false
}

// signal sends to every member of the group, if it is still ours.
func (g Group) signal(s syscall.Signal) {
	if g.PID > 1 && !g.foreign() {
		_ = syscall.Kill(-g.PID, s) // ESRCH: it ended by itself, which is as good
	}
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // no /proc: nothing can be adopted there anyway
	}
	return strings.TrimSpace(string(b))
}
