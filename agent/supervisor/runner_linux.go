package supervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/procfs"
)

// newRunner returns the Runner of real processes. There can be one in a
// program, and with it nothing else may wait for children (os/exec does): it
// is a subreaper, so that children of services whose parent ended are its own,
// and one goroutine reaps them all. domain names its control groups.
func newRunner(log *slog.Logger, domain string) (Runner, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot start services without %s: %w", os.DevNull, err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		log.Warn("cannot reap what services leave behind, another process does", "error", err)
	}
	r := &runner{
		log: log, null: null, boot: bootID(),
		children:     make(map[int]func(syscall.WaitStatus)),
		orphanReaped: make(chan struct{}),
		closing:      make(chan struct{}),
	}
	if r.cgroups, err = newCgroups(domain); err != nil {
		log.Info("no control groups: services are kept together by process group and environment", "reason", err)
	} else {
		log.Info("each service gets a control group", "below", r.cgroups.base)
	}
	r.signals = make(chan os.Signal, 1)
	signal.Notify(r.signals, syscall.SIGCHLD)
	r.running.Go(r.reap)
	return r, nil
}

type runner struct {
	log     *slog.Logger
	null    *os.File
	boot    string
	cgroups cgroups
	signals chan os.Signal
	closing chan struct{}
	running sync.WaitGroup

	// mu is held from the start of a child until it is in children.
	mu       sync.Mutex
	children map[int]func(syscall.WaitStatus)
	// orphanReaped is closed and replaced when an orphan was reaped.
	orphanReaped chan struct{}
}

func (r *runner) Boot() string { return r.boot }

func (r *runner) Close() {
	signal.Stop(r.signals)
	close(r.closing)
	r.running.Wait()
	r.null.Close()
	r.cgroups.close()
}

// reap waits for all children, ours and those that services left to us.
func (r *runner) reap() {
	for {
		for r.reapOne() {
		}
		select {
		case <-r.signals:
		case <-r.closing:
			return
		}
	}
}

// reapOne waits for one child that has ended and calls its function. It reports
// whether there may be another.
func (r *runner) reapOne() bool {
	r.mu.Lock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if errors.Is(err, syscall.EINTR) {
		r.mu.Unlock()
		return true
	}
	if err != nil || pid <= 0 {
		r.mu.Unlock()
		return false
	}
	ended := r.children[pid]
	delete(r.children, pid)
	if ended == nil { // it may be the last one of a group that is waited for
		close(r.orphanReaped)
		r.orphanReaped = make(chan struct{})
	}
	r.mu.Unlock()
	if ended != nil {
		ended(status)
	}
	return true
}

func (r *runner) Start(c Command, onExit func(Exit)) (Group, error) {
	service, token := procfs.Variable(c.Env, "SERVICE_NAME"), procfs.Variable(c.Env, "DOMINION_INSTANCE")
	cgroup := r.cgroups.make(service, token)
	born := make(chan Group, 1)
	g, err := r.spawn(c, cgroup, func(status syscall.WaitStatus) { r.ended(<-born, exitOf(status), onExit) })
	if cgroup != "" && (err != nil || g.Cgroup == "") {
		removeCgroup(cgroup)
	}
	if err != nil {
		return Group{}, err
	}
	g.token = token
	born <- g
	return g, nil
}

// spawn starts a process, in a control group if there is one. The lock keeps
// the reaper from reaping a child that is not in children yet.
func (r *runner) spawn(c Command, cgroup string, ended func(syscall.WaitStatus)) (Group, error) {
	fd := func(f *os.File) uintptr {
		if f == nil {
			f = r.null
		}
		return f.Fd()
	}
	sys := &syscall.SysProcAttr{Setsid: true, Credential: c.Credential}
	if cgroup != "" {
		dir, err := os.Open(cgroup)
		if err != nil {
			cgroup = ""
		} else {
			defer dir.Close()
			sys.UseCgroupFD, sys.CgroupFD = true, int(dir.Fd())
		}
	}
	attr := &syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: []uintptr{r.null.Fd(), fd(c.Stdout), fd(c.Stderr)}, Sys: sys}
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(c.Path, c.Args, attr)
	if err != nil && sys.UseCgroupFD { // is it the program, or a kernel before 5.7, or one that forbids it?
		sys.UseCgroupFD, cgroup = false, ""
		if pid, err = syscall.ForkExec(c.Path, c.Args, attr); err == nil {
			r.log.Warn("a process cannot be started in a control group, so it is kept track of by its process group and environment")
		}
	}
	if err != nil {
		return Group{}, err
	}
	r.children[pid] = ended
	p, _ := procfs.Root.Stat(pid) // a zombie at the worst, as it is not reaped yet
	return Group{PID: pid, Started: p.Started, Cgroup: cgroup}, nil
}

// ended reports a leader's end, and then the end of what it left behind.
func (r *runner) ended(g Group, exit Exit, onExit func(Exit)) {
	exit.Leftovers = r.remains(g)
	onExit(exit)
	r.running.Go(func() {
		if exit.Leftovers && !r.waitEmpty(g) {
			return
		}
		if exit.Leftovers {
			exit.Leftovers = false
			onExit(exit)
		}
		r.endRemains(g)
	})
}

// checkMark is the variable that identifies processes which a check left behind.
const checkMark = "DOMINION_CHECK"

func (r *runner) Signal(g Group, s syscall.Signal) {
	g.signal(s)
	if g.Cgroup != "" {
		signalCgroup(g.Cgroup, s, g.PID)
		return
	}
	for _, pid := range r.strays(g) {
		signalTokenProcess(pid, g.token, s)
	}
}

// Adopt watches the leader of a group, or, if that has ended, one process after the
// other that carries the token. See Runner.
func (r *runner) Adopt(g Group, token string, onExit func(Exit)) bool {
	g.token, g.adopted = token, true
	if !isCgroupOf(g.Cgroup, token) {
		g.Cgroup = ""
	}
	if p, ok := procfs.Root.Stat(g.PID); ok && !p.Ended && p.Started == g.Started && g.PID > 1 {
		r.running.Go(func() {
			if r.watch(p) {
				r.ended(g, Exit{}, onExit)
			}
		})
		return true
	}
	if _, ok := g.tokenProcess(token); !ok {
		if g.PID > 1 && r.remains(g) { // it ends before another life may begin
			r.running.Go(func() { r.ended(g, Exit{}, onExit) })
			return true
		}
		r.running.Go(func() { r.endRemains(g) })
		return false
	}
	// The leader ended while no agent ran; processes with the token are the service.
	r.running.Go(func() {
		for {
			p, ok := g.tokenProcess(token)
			if !ok {
				r.ended(g, Exit{}, onExit)
				return
			}
			if !r.watch(p) {
				return
			}
		}
	})
	return true
}

func (r *runner) Lives(domain string) []Life { return lives(domain) }

// endUnclaimed ends the processes in control groups of lives that were not adopted.
func (r *runner) endUnclaimed(adopted []Group) {
	for _, dir := range r.cgroups.unclaimed(adopted) {
		r.running.Go(func() { r.endRemains(Group{Cgroup: dir}) })
	}
}

// watch waits for the end of a process that is not our child. false: we are
// closing.
func (r *runner) watch(p procfs.Stat) bool {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return r.poll(p) // a kernel before 5.10, or it has ended
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	if now, ok := procfs.Root.Stat(p.PID); !ok || now.Started != p.Started {
		return true // the descriptor may be of a later process of that number
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return r.poll(p)
	}
	waiting := make(chan struct{})
	defer close(waiting)
	r.running.Go(func() {
		select {
		case <-r.closing:
			_ = file.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
		case <-waiting:
		}
	})
	ended := false
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		ended = err == nil && n > 0
		return ended
	})
	if err != nil && !ended {
		return r.poll(p)
	}
	return true
}

// poll waits as watch does, where the kernel has no pidfd.
func (r *runner) poll(p procfs.Stat) bool {
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		if now, ok := procfs.Root.Stat(p.PID); !ok || now.Ended || now.Started != p.Started {
			return true
		}
		select {
		case <-look.C:
		case <-r.closing:
			return false
		}
	}
}

// Check runs a command to its end, and then ends everything that it left, also in
// sessions of its own. See Runner.
func (r *runner) Check(ctx context.Context, c Command) error {
	done := make(chan Exit, 1)
	mark := checkMark + "=" + rand.Text()
	c.Env = append(slices.Clip(c.Env), mark)
	g, err := r.spawn(c, "", func(status syscall.WaitStatus) { done <- exitOf(status) })
	if err != nil {
		return err
	}
	defer func() {
		r.end(g)
		r.endLeftovers(mark)
	}()
	select {
	case exit := <-done:
		if exit.Signal != 0 || exit.Code != 0 {
			return errors.New(exit.String())
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.closing:
		return errors.New("the agent stops")
	}
}

// end kills a group and waits until nothing of it is left; a second at most,
// as what hangs in the kernel cannot be waited for.
func (r *runner) end(g Group) {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for range 500 {
		if g.empty() {
			return
		}
		g.signal(syscall.SIGKILL)
		<-look.C
	}
}

func exitOf(status syscall.WaitStatus) Exit {
	if status.Signaled() {
		return Exit{Signal: status.Signal(), Known: true}
	}
	return Exit{Code: status.ExitStatus(), Known: true}
}
