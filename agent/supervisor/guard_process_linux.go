package supervisor

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/procfs"
)

// RunGuard runs a guard, and does not return, if args, the program's name first,
// request that. Otherwise it does nothing.
func RunGuard(args []string) {
	if len(args) < 2 || args[1] != guardCommand {
		return
	}
	g := guard{first: 3}
	if len(args) != 6 || !parseDurations(args[4:], &g.term.Until, &g.term.Stop) {
		fmt.Fprintln(os.Stderr, "domain guard: the agent starts it, beside each exclusive service")
		os.Exit(2)
	}
	g.token = args[3]
	if err := g.open(); err != nil {
		os.Exit(1) // the agent sees that it is gone
	}
	debug.FreeOSMemory()
	g.watch()
	os.Exit(0)
}

// guard is the state of the process beside a life of an exclusive service. It ends
// all of that life when its lease expires, and exits when nothing is left of it and
// no agent is connected.
type guard struct {
	token string
	term  Term
	// kill is when SIGKILL is due after a stop by the agent; 0: the agent did not stop it.
	kill time.Duration

	// group is that of the life, once the agent has sent it.
	group Group
	began bool
	// void reports that no life will begin.
	void bool
	// ended reports that the leader of the life has ended.
	ended    bool
	termSent bool
	// leader is a pidfd of the leader; -1: the kernel has none.
	leader   int
	timer    int
	listener int
	// first is the connection that the agent passed at the start.
	first int
	// agents are all connections of agents.
	agents []int
	// pollInterval is the time until the life is examined again; 0: it need not be.
	pollInterval time.Duration
}

// open opens the timer and the listener of the guard. It needs no disk.
func (g *guard) open() (err error) {
	// A signal to the agent's group or session does not end the guard: it exits
	// with its life. After a SIGKILL the agent starts another.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	for _, score := range []string{"-1000", "0"} { // not for who is not root
		if os.WriteFile("/proc/self/oom_score_adj", []byte(score), 0) == nil {
			break
		}
	}
	g.group.token, g.leader = g.token, -1
	if g.timer, err = unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return err
	}
	if g.listener, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	if err := unix.Bind(g.listener, guardAddress(g.token)); err != nil {
		return err
	}
	if err := unix.Listen(g.listener, 8); err != nil {
		return err
	}
	unix.CloseOnExec(g.first)
	if err := unix.SetNonblock(g.first, true); err != nil {
		return err
	}
	g.addAgent(g.first)
	return nil
}

// watch runs the loop of the guard.
func (g *guard) watch() {
	for {
		if g.act(bootTime()); g.done() {
			return
		}
		g.wait()
	}
}

// done reports whether the guard may exit.
func (g *guard) done() bool {
	switch {
	case len(g.agents) > 0 || g.pollInterval > 0:
		return false
	case g.void || g.began && g.ended:
		return true // act has found that nothing is left
	case !g.began:
		// The agent was killed while it started the life, perhaps: it may still begin.
		return bootTime() >= g.term.Until && g.gone()
	}
	return false
}

// gone reports whether nothing of the life is alive.
func (g *guard) gone() bool {
	if g.group.PID > 1 && !g.group.empty() {
		return false
	}
	if g.group.Cgroup != "" && populated(g.group.Cgroup) {
		return false
	}
	return len(tokenProcesses(g.token)) == 0
}

const (
	killEvery = 20 * time.Millisecond  // between two SIGKILLs: members may be born in between
	lookEvery = 500 * time.Millisecond // while processes are left that the agent ends
)

// act does what is due.
func (g *guard) act(now time.Duration) {
	over := now >= g.term.Until
	kill := now >= g.term.Until+g.term.Stop || g.kill > 0 && now >= g.kill
	g.pollInterval = 0
	if !over && !kill && !g.ended { // nothing is due
		g.arm(now)
		return
	}
	switch {
	case g.gone():
		g.ended = g.ended || g.began
		return
	case kill:
		g.pollInterval = killEvery
		g.signal(syscall.SIGKILL)
	case over && !g.termSent && g.kill == 0:
		g.termSent, g.pollInterval = true, killEvery
		requestStop(g.signal)
	case over:
		g.pollInterval = killEvery
	default:
		g.pollInterval = lookEvery
	}
	g.arm(now)
}

// arm sets the timer to what is due next.
func (g *guard) arm(now time.Duration) {
	next := g.term.Until
	if now >= next {
		next += g.term.Stop
	}
	if g.kill > 0 && g.kill < next {
		next = g.kill
	}
	if now >= next {
		next = 0 // disarmed: pollInterval is used
	}
	_ = unix.TimerfdSettime(g.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(next))}, nil)
}

// signal reaches all of the life: its group, its control group, and what left
// both and carries its mark.
func (g *guard) signal(s syscall.Signal) {
	g.group.signal(s)
	if g.group.Cgroup != "" {
		signalCgroup(g.group.Cgroup, s, g.group.PID)
	}
	for _, pid := range tokenProcesses(g.token) {
		if p, ok := procfs.Root.Stat(pid); ok && p.Group != g.group.PID && (g.group.Cgroup == "" || cgroupOfLife(pid, g.token) != g.group.Cgroup) {
			signalTokenProcess(pid, g.token, s)
		}
	}
}

// wait sleeps until something happens or is due.
func (g *guard) wait() {
	fds := []unix.PollFd{{Fd: int32(g.timer), Events: unix.POLLIN}, {Fd: int32(g.listener), Events: unix.POLLIN}}
	for _, fd := range g.agents {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	watched := g.began && !g.ended && g.leader >= 0
	if watched {
		fds = append(fds, unix.PollFd{Fd: int32(g.leader), Events: unix.POLLIN})
	}
	timeout := -1
	switch {
	case g.pollInterval > 0:
		timeout = int(g.pollInterval.Milliseconds())
	case g.began && !g.ended && g.leader < 0: // a kernel without descriptors of processes
		timeout = 250
	case !g.began && !g.void && bootTime() >= g.term.Until:
		timeout = 100 // a life that begins too late must be found
	}
	if _, err := unix.Poll(fds, timeout); err != nil {
		return // EINTR
	}
	var b [8]byte
	_, _ = unix.Read(g.timer, b[:])
	for _, fd := range fds[2:] {
		if fd.Revents == 0 {
			continue
		}
		if watched && int(fd.Fd) == g.leader {
			g.ended = true
		} else {
			g.receive(int(fd.Fd))
		}
	}
	if fds[1].Revents != 0 {
		if fd, _, err := unix.Accept4(g.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK); err == nil {
			if trusted(fd) {
				g.addAgent(fd)
			} else {
				unix.Close(fd)
			}
		}
	}
	if p, ok := procfs.Root.Stat(g.group.PID); g.began && g.leader < 0 && (!ok || p.Ended || p.Started != g.group.Started) {
		g.ended = true
	}
}

// addAgent adds a connection of an agent, and sends the term of the life.
func (g *guard) addAgent(fd int) {
	g.agents = append(g.agents, fd)
	_, _ = unix.Write(fd, []byte("guard "+nanoseconds(g.term.Until)+" "+nanoseconds(g.term.Stop)))
}

// receive handles a message of an agent, or the end of its connection.
func (g *guard) receive(fd int) {
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if n <= 0 || err != nil {
		unix.Close(fd)
		for i, one := range g.agents {
			if one == fd {
				g.agents = append(g.agents[:i], g.agents[i+1:]...)
				break
			}
		}
		return
	}
	words := strings.Split(string(b[:n]), " ")
	switch {
	case words[0] == "lease":
		var t Term
		if parseDurations(words[1:], &t.Until, &t.Stop) && bootTime() < g.term.Until { // one that was over stays so
			g.term.Until, g.term.Stop = max(g.term.Until, t.Until), t.Stop
		}
	case words[0] == "life" && len(words) >= 4:
		pid, _ := strconv.Atoi(words[1])
		started, _ := strconv.ParseUint(words[2], 10, 64)
		g.lifeBegan(Group{PID: pid, Started: started, Cgroup: strings.Join(words[3:], " "), token: g.token})
	case words[0] == "ends":
		var kill time.Duration
		if parseDurations(words[1:], &kill) && (g.kill == 0 || kill < g.kill) {
			g.kill = kill
		}
	case words[0] == "void":
		g.void = true
	}
}

// lifeBegan takes over what identifies the life.
func (g *guard) lifeBegan(life Group) {
	if g.began || life.PID <= 1 {
		return
	}
	if !isCgroupOf(life.Cgroup, g.token) {
		life.Cgroup = ""
	}
	g.began, g.group = true, life
	fd, err := unix.PidfdOpen(life.PID, 0)
	if p, ok := procfs.Root.Stat(life.PID); !ok || p.Ended || p.Started != life.Started {
		g.ended = true
	}
	if err == nil {
		g.leader = fd
	}
}
