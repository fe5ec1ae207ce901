package supervisor

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

// carries reports whether a process was started with DOMINION_INSTANCE=token.
func carries(pid int, token string) bool {
	return token != "" && slices.Contains(procfs.Root.Environ(pid), "DOMINION_INSTANCE="+token)
}

// startedFrom returns the id of the domain that started a process from a data_dir,
// whose services' data are in data, as its environment has it; "" where none did.
// In a container, which has a file system of its own, the same path is another
// directory.
func startedFrom(data string, pid int, environ []string) string {
	name := procfs.Variable(environ, "SERVICE_NAME")
	if !topics.ValidName(name) || procfs.Variable(environ, "SERVICE_DATA_DIR") != filepath.Join(data, name) {
		return ""
	}
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return ""
	}
	if ours, err := os.Stat("/"); err != nil || !os.SameFile(theirs, ours) {
		return ""
	}
	return procfs.Variable(environ, "DOMAIN_UUID")
}

// lives looks through all processes for those that the agent of a domain started.
func lives(domain string) []Life {
	best := make(map[string]Life)
	first := make(map[string]procfs.Stat) // the process that the best life was found by
	for _, pid := range procfs.Root.PIDs() {
		list := procfs.Root.Environ(pid)
		if pid == os.Getpid() || domain == "" || procfs.Variable(list, "DOMAIN_UUID") != domain {
			continue
		}
		l := Life{Env: make(map[string]string, len(list)), Args: procfs.Root.Args(pid)}
		for _, e := range list {
			k, v, _ := strings.Cut(e, "=")
			l.Env[k] = v
		}
		p, ok := procfs.Root.Stat(pid)
		if l.Token = l.Env["DOMINION_INSTANCE"]; l.Token == "" || !ok || p.Ended {
			continue
		}
		var info syscall.Stat_t
		if err := syscall.Stat(fmt.Sprintf("/proc/%d", pid), &info); err != nil {
			continue
		}
		l.UID = int(info.Uid)
		// A group whose living leader carries no token of ours is not ours.
		leader, there := procfs.Root.Stat(p.Group)
		if pid == p.Group || !there || leader.Ended {
			l.Group = Group{PID: p.Group, Started: leader.Started, Cgroup: cgroupOfLife(pid, l.Token)}
		}
		if before, is := first[l.Token]; !is || rank(p, l.Group) < rank(before, best[l.Token].Group) ||
			rank(p, l.Group) == rank(before, best[l.Token].Group) && p.Started < before.Started {
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
	for _, pid := range procfs.Root.PIDs() {
		environ := procfs.Root.Environ(pid)
		id := startedFrom(data, pid, environ)
		var info syscall.Stat_t
		if id == "" || syscall.Stat(fmt.Sprintf("/proc/%d", pid), &info) != nil {
			continue
		}
		if (users{runAs, allowRoot}).mayRunAs(procfs.Variable(environ, "SERVICE_NAME"), int(info.Uid)) {
			return id
		}
	}
	return ""
}

// rank orders the processes that a life may be found by: the leader of its group; what a
// leader left behind; what is in the group of another.
func rank(p procfs.Stat, g Group) int {
	switch g.PID {
	case p.PID:
		return 0
	case 0:
		return 2
	}
	return 1
}

// tokenProcesses lists the processes that carry a token and have not ended.
func tokenProcesses(token string) []int {
	var all []int
	for _, pid := range procfs.Root.PIDs() {
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
	for _, pid := range procfs.Root.PIDs() {
		if p, ok := procfs.Root.Stat(pid); ok && p.Group == g.PID && !p.Ended {
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
	p, ok := procfs.Root.Stat(g.PID)
	return ok && p.Started != g.Started
}

// tokenProcess finds a member of the group that carries the token.
func (g Group) tokenProcess(token string) (procfs.Stat, bool) {
	if g.PID <= 1 || g.foreign() {
		return procfs.Stat{}, false
	}
	for _, pid := range g.members() {
		if p, ok := procfs.Root.Stat(pid); ok && carries(pid, token) {
			return p, true
		}
	}
	return procfs.Stat{}, false
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
