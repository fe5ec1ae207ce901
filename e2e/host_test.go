package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Host is a machine of a home: a network namespace with an eth0 that hangs on
// the home's bridge, a host name and a directory as its disk.
type Host struct {
	Name string
	Dir  string

	t       testing.TB
	address netip.Prefix
	gateway netip.Addr
	netns   string   // its name for ip
	port    string   // its end of the cable at the bridge
	network *os.File // the namespace
	inode   uint64   // of the namespace, as /proc tells it
	started []*Process
}

// Address is where the host is reached now.
func (h *Host) Address() string { return h.address.Addr().String() }

// in runs f on a thread that is in the host's network and bears its name.
// What f starts or dials belongs to the host.
func (h *Host) in(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// never unlocked: the thread ends with this goroutine
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Setns(int(h.network.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("cannot enter the network of %s: %w", h.Name, err)
			}
			if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
				return err
			}
			if err := unix.Sethostname([]byte(h.Name)); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

// Dial connects from this host.
func (h *Host) Dial(network, address string) (c net.Conn, err error) {
	err = h.in(func() error {
		c, err = net.DialTimeout(network, address, 10*time.Second)
		return err
	})
	return c, err
}

// Get asks a URL from this host and returns the body of an answer 200.
func (h *Host) Get(url string) (string, error) {
	dial := func(_ context.Context, network, address string) (net.Conn, error) { return h.Dial(network, address) }
	client := http.Client{
		Timeout:   20 * time.Second,
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
	}
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, answer.Status)
	}
	return string(body), err
}

// Result is what a program that ended has left.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Exec runs a program on the host until it ends.
func (h *Host) Exec(env []string, name string, args ...string) Result {
	h.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = h.Dir
	cmd.Env = append(plainEnvironment(h.Dir), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = patience
	if err := h.in(cmd.Start); err != nil {
		h.t.Fatalf("%s: cannot start %s: %v", h.Name, name, err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%s: %s: %v", h.Name, name, err)
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// plainEnvironment is what a program started by an init system finds. Hubs and domains
// are open: each machine is adopted by the only dominion in reach, unless its own
// configuration says otherwise.
func plainEnvironment(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8",
		"DOMINION_CFG_IDENTITY_ADOPTION=open", "DOMAIN_CFG_ADOPTION=open",
	}
}

// LinkDown pulls the host's cable out: addresses and routes stay.
func (h *Host) LinkDown() { h.must(command("ip", "link", "set", h.port, "down")) }

// LinkUp puts the cable back.
func (h *Host) LinkUp() { h.must(command("ip", "link", "set", h.port, "up")) }

// SetAddress gives eth0 another address of the home's network, the last byte
// being n, and takes the former away.
func (h *Host) SetAddress(n byte) {
	h.t.Helper()
	b := h.address.Addr().As4()
	b[3] = n
	next := netip.PrefixFrom(netip.AddrFrom4(b), h.address.Bits())
	if h.address.Addr() != next.Addr() {
		h.must(command("ip", "-n", h.netns, "addr", "flush", "dev", "eth0", "scope", "global"))
	}
	h.address = next
	h.must(command("ip", "-n", h.netns, "addr", "replace", next.String(), "dev", "eth0"))
	h.must(command("ip", "-n", h.netns, "route", "replace", "default", "via", h.gateway.String(), "dev", "eth0"))
}

// Processes returns the pids of everything that runs on the host.
func (h *Host) Processes() []int {
	entries, err := os.ReadDir("/proc")
	h.must(err)
	want := fmt.Sprintf("net:[%d]", h.inode)
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if network, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/net")); err == nil && network == want && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// KillAll ends every process of the host at once, as a pulled plug does, and
// returns when none of them is left.
func (h *Host) KillAll() {
	killed := make(map[int]bool)
	for began := time.Now(); time.Since(began) < patience; { // what forks meanwhile is found by the next look
		for _, pid := range h.Processes() {
			killed[pid] = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		// one that is ending is in no network any more, and there all the same
		maps.DeleteFunc(killed, func(pid int, _ bool) bool { return !alive(pid) })
		if len(killed) == 0 {
			return
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	h.t.Errorf("%s: processes survive SIGKILL: %v", h.Name, h.Processes())
}

// PowerCut takes the cable and the current away.
func (h *Host) PowerCut() {
	h.LinkDown()
	h.KillAll()
}

func (h *Host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", h.Name, err)
	}
}

// Process is a program that runs on a host.
type Process struct {
	Name string

	t    testing.TB
	cmd  *exec.Cmd
	log  *feed[string]
	done chan struct{}
}

// Start runs a program on the host. Its output is kept, and shown when the
// test fails.
func (h *Host) Start(name string, args ...string) *Process {
	h.t.Helper()
	p := &Process{Name: filepath.Base(name) + "@" + h.Name, t: h.t, log: newFeed[string](), done: make(chan struct{})}
	output, input, err := os.Pipe()
	h.must(err)
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir = h.Dir
	p.cmd.Env = plainEnvironment(h.Dir)
	p.cmd.Stdout, p.cmd.Stderr = input, input
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = h.in(p.cmd.Start)
	input.Close()
	h.must(err)
	go func() {
		defer output.Close()
		readLines(output, func(line string) {
			p.log.add(time.Now().Format("15:04:05.000 ") + line)
		})
	}()
	go func() {
		defer close(p.done)
		p.cmd.Wait() // the test asks for the state when it needs it
	}()
	h.started = append(h.started, p)
	h.t.Cleanup(func() {
		p.Kill()
		if h.t.Failed() {
			h.t.Logf("output of %s (pid %d):\n%s", p.Name, p.PID(), p.tail(60))
		}
	})
	return p
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process alone.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: cannot signal: %v", p.Name, err)
	}
}

// Kill ends the process alone by SIGKILL and waits for it.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Stop ends the process by SIGTERM; it must exit with 0. It is
// waited for until it has said something: in the milliseconds before main a
// program cannot have asked for its signals, and ends by them.
func (p *Process) Stop() {
	p.t.Helper()
	p.AwaitLog()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 0 {
		p.t.Errorf("%s: exit code %d after SIGTERM, want 0", p.Name, code)
	}
}

// Wait returns the exit code of the process, which must end by itself.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s: still runs after %v", p.Name, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Ended reports whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// AwaitLog waits for a line of output that contains every one of the words.
func (p *Process) AwaitLog(words ...string) string {
	p.t.Helper()
	line, ok := p.log.await(patience, 0, func(line string) bool { return containsAll(line, words) })
	if !ok {
		p.t.Fatalf("%s: not in its output within %v: %q", p.Name, patience, words)
	}
	return line
}

func (p *Process) tail(n int) string {
	lines, _ := p.log.from(0)
	if len(lines) > n {
		lines = append([]string{fmt.Sprintf("… %d lines", len(lines)-n)}, lines[len(lines)-n:]...)
	}
	return strings.Join(lines, "\n")
}

func containsAll(s string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(s, w) })
}

// alive reports whether a process runs; a thread is none. A zombie does not, unless
// other threads of it are there still, with the files and locks that it has.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	says := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		says[key] = strings.TrimSpace(value)
	}
	ended := strings.HasPrefix(says["State"], "Z") || strings.HasPrefix(says["State"], "X")
	threads, _ := strconv.Atoi(says["Threads"])
	return says["Tgid"] == strconv.Itoa(pid) && (!ended || threads > 1)
}

// kill ends one process by SIGKILL.
func kill(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("cannot kill %d: %v", pid, err)
	}
}
