package supervisor

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/procfs"
)

// remains reports whether any process of a life is alive.
func (r *runner) remains(g Group) bool {
	if g.PID > 1 && !g.empty() {
		return true
	}
	if g.Cgroup != "" {
		return populated(g.Cgroup)
	}
	return (g.adopted || r.hasOrphans()) && len(r.strays(g)) > 0
}

// strays lists what is of a life without a control group, and left its process
// group as a daemon does: it still carries the token.
func (r *runner) strays(g Group) []int {
	if g.token == "" {
		return nil
	}
	var all []int
	for _, pid := range tokenProcesses(g.token) {
		p, ok := procfs.Root.Stat(pid)
		if !ok || p.Ended || p.Group == g.PID {
			continue
		}
		r.mu.Lock()
		_, check := r.children[p.Group] // a health check that runs has the same environment
		r.mu.Unlock()
		if !check {
			all = append(all, pid)
		}
	}
	return all
}

// hasOrphans reports whether the agent inherited a child from a service, as it does
// each daemon. If it did not, /proc need not be searched.
func (r *runner) hasOrphans() bool {
	orphans, complete := r.orphans()
	return !complete || len(orphans) > 0
}

// orphans lists the agent's children that others started. It returns false if the
// kernel does not list children.
func (r *runner) orphans() (all []int, complete bool) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, false
	}
	for _, t := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		if err != nil {
			return nil, false // a kernel without that file
		}
		for _, f := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(f)
			r.mu.Lock()
			_, ours := r.children[pid]
			r.mu.Unlock()
			if !ours {
				all = append(all, pid)
			}
		}
	}
	return all, true
}

// endLeftovers kills what a check left behind in a session of its own, and what
// that leaves, within a second.
func (r *runner) endLeftovers(mark string) {
	for range 100 {
		pids, complete := r.orphans()
		if !complete {
			pids = procfs.Root.PIDs()
		}
		left := 0
		for _, pid := range pids {
			if slices.Contains(procfs.Root.Environ(pid), mark) {
				left++
				killMarked(pid, mark)
			} else if complete && inExec(pid) {
				left++ // it may have the mark in a moment
			}
		}
		if left == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// inExec reports whether a process is replacing its program: it has neither arguments nor
// an environment for a moment then, which on a slow disk is a long one.
func inExec(pid int) bool {
	empty := func(list []string) bool { return strings.Join(list, "") == "" }
	stat, there := procfs.Root.Stat(pid)
	return there && !stat.Ended && empty(procfs.Root.Args(pid)) && empty(procfs.Root.Environ(pid))
}

// killMarked kills a process that has a variable in its environment: by a descriptor,
// which cannot become another process meanwhile.
func killMarked(pid int, variable string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it ended
	}
	defer unix.Close(fd)
	if slices.Contains(procfs.Root.Environ(pid), variable) {
		_ = unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0)
	}
}

// endRemains ends what may be left of a life that ended, wherever it is, and removes
// its control group.
func (r *runner) endRemains(g Group) {
	if g.Cgroup != "" && populated(g.Cgroup) {
		requestStop(func(s syscall.Signal) { signalCgroup(g.Cgroup, s, 0) })
		for deadline := time.Now().Add(strayTime); populated(g.Cgroup) && time.Now().Before(deadline); {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.closing:
				deadline = time.Now()
			}
		}
		signalCgroup(g.Cgroup, syscall.SIGKILL, 0)
	}
	if g.adopted || r.hasOrphans() { // else nothing can have left it
		r.endStrays(g.token)
	}
	if g.Cgroup != "" {
		removeCgroup(g.Cgroup)
	}
}

// waitEmpty waits until nothing of a life is left. false: we are closing.
func (r *runner) waitEmpty(g Group) bool {
	// Most orphans are reaped here, which ends the wait. Those of an adopted group,
	// or with a parent outside of the group, are only found by polling.
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		r.mu.Lock()
		reaped := r.orphanReaped
		r.mu.Unlock()
		if !r.remains(g) {
			return true
		}
		select {
		case <-reaped:
		case <-time.After(pause):
		case <-r.closing:
			return false
		}
	}
}

// strayTime is how long what left the group of a life that ended may take to
// end, too.
const strayTime = 5 * time.Second

// endStrays ends what made a session of its own, as a daemon does, and so left the
// group of a life that ended. It still carries the token of that life.
func (r *runner) endStrays(token string) {
	if token == "" {
		return
	}
	signalled := make(map[int]bool)
	deadline, closing := time.Now().Add(strayTime), r.closing
	for {
		strays := tokenProcesses(token)
		late := time.Since(deadline)
		if len(strays) == 0 || late > time.Second { // SIGKILL did not help: it hangs in the kernel
			return
		}
		for _, pid := range strays {
			if late >= 0 {
				signalTokenProcess(pid, token, syscall.SIGKILL)
			} else if !signalled[pid] {
				signalled[pid] = true
				requestStop(func(s syscall.Signal) { signalTokenProcess(pid, token, s) })
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-closing:
			closing, deadline = nil, time.Now()
		}
	}
}
