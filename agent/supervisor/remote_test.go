package supervisor

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/internal/mailbox"
	"github.com/jmbarzee/dominion/topics"
)

// The test binary is an agent, too: with this in its environment.
const agentDir = "SUPERVISOR_TEST_AGENT"

// agentPlain keeps it from making control groups.
const agentPlain = "SUPERVISOR_TEST_PLAIN"

// agentDomain is the id of its domain, where that is another one.
const agentDomain = "SUPERVISOR_TEST_DOMAIN"

func TestMain(m *testing.M) {
	RunGuard(os.Args)
	if lines := os.Getenv(notifyLines); lines != "" {
		if err := sendNotify(lines); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(agentDir); dir != "" {
		if err := agent(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// notifyLines makes this binary send sd_notify(3) lines, with ; between them,
// as a service does: no other program that can is on every machine.
const notifyLines = "SUPERVISOR_TEST_NOTIFY"

func sendNotify(lines string) error {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(strings.ReplaceAll(lines, ";", "\n")))
	return err
}

// notifies is the line of a recipe that sends them.
func notifies(t *testing.T, lines string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Services of root's agent are not root: they must reach this program.
	for d := filepath.Dir(self); os.Getuid() == 0 && strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%s='%s' '%s'\n", notifyLines, lines, self)
}

// view is the state of an agent, printed as a line after each change.
type view struct {
	Instances []topics.Instance
	Reports   []string
	Adopted   bool // Adopt is done
	Applied   int  // how many start commands it obeyed
	Idle      bool
}

// agent adopts what is there, obeys the start commands on its standard input,
// and lets go of everything when that ends.
func agent(dir string) error {
	h := &host{dir: dir, events: mailbox.New[Event](1000)}
	o := h.options()
	o.Domain = cmp.Or(os.Getenv(agentDomain), o.Domain)
	var err error
	if os.Getenv(agentPlain) != "" {
		if o.Runner, err = plainRunner(); err != nil {
			return err
		}
		defer o.Runner.Close()
	}
	if h.s, err = New(o); err != nil {
		return err
	}
	defer h.s.Close()
	commands := make(chan map[string]topics.Spec)
	go func() {
		defer close(commands)
		in := json.NewDecoder(os.Stdin)
		for {
			var specs map[string]topics.Spec
			if in.Decode(&specs) != nil {
				return
			}
			commands <- specs
		}
	}()
	h.s.Adopt(time.Now())
	out := json.NewEncoder(os.Stdout)
	applied := 0
	for {
		if err := out.Encode(view{h.s.Instances(), h.reports, true, applied, h.s.Idle()}); err != nil {
			return err
		}
		wait := time.Hour
		if at := h.s.Next(); !at.IsZero() {
			wait = time.Until(at)
		}
		select {
		case specs, ok := <-commands:
			if !ok {
				return nil
			}
			h.s.Apply(specs, time.Now())
			applied++
		case <-h.events.Ready():
			events, _ := h.events.Take()
			for _, e := range events {
				h.s.Handle(e, time.Now())
			}
		case <-time.After(wait):
			h.s.Expire(time.Now())
		}
	}
}

// remote is an agent in another process.
type remote struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	views chan view
	last  view
	sent  int // start commands
}

func startAgent(t *testing.T, dir string) *remote {
	t.Helper()
	r := &remote{t: t, views: make(chan view)}
	r.cmd = exec.Command(os.Args[0])
	r.cmd.Env = append(os.Environ(), agentDir+"="+dir)
	r.cmd.Stderr = os.Stderr
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(r.views)
		lines := bufio.NewReader(out)
		for {
			var v view
			line, err := lines.ReadBytes('\n')
			if err != nil || json.Unmarshal(line, &v) != nil {
				return
			}
			select {
			case r.views <- v:
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		r.kill()
	})
	r.until("it adopted", func(v view) bool { return v.Adopted })
	return r
}

// apply sends a start command and waits until it is taken.
func (r *remote) apply(specs map[string]topics.Spec) {
	r.t.Helper()
	if err := json.NewEncoder(r.in).Encode(specs); err != nil {
		r.t.Fatal(err)
	}
	r.sent++
	r.until("the start command is taken", func(v view) bool { return v.Applied == r.sent })
}

func (r *remote) until(what string, cond func(view) bool) {
	r.t.Helper()
	timeout := time.After(patienceTime)
	for !cond(r.last) {
		select {
		case v, ok := <-r.views:
			if !ok {
				r.t.Fatalf("the agent ended before %s", what)
			}
			r.last = v
		case <-timeout:
			r.t.Fatalf("waited in vain until %s: %+v", what, r.last)
		}
	}
}

func (r *remote) untilState(service string, s topics.State) topics.Instance {
	r.t.Helper()
	r.until(service+" is "+string(s), func(v view) bool { return v.get(service).State == s })
	return r.last.get(service)
}

func (v view) get(service string) topics.Instance {
	for _, i := range v.Instances {
		if i.Service == service {
			return i
		}
	}
	return topics.Instance{}
}

func (v view) reported(text string) bool {
	return slices.ContainsFunc(v.Reports, func(s string) bool { return strings.Contains(s, text) })
}

// kill ends the agent with SIGKILL.
func (r *remote) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// leave ends the agent as SIGTERM does: it lets go.
func (r *remote) terminate() {
	r.t.Helper()
	r.in.Close()
	for range r.views {
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Error(err)
	}
}

// stopAll ends all services by the agent and proves it.
func (r *remote) stopAll(h *host) {
	r.t.Helper()
	r.apply(map[string]topics.Spec{})
	r.until("all is stopped", func(v view) bool { return v.Idle })
	h.noneLeft()
}

// bare is a host without a Supervisor: for files and processes alone.
func bare(t *testing.T) *host {
	h := &host{t: t, dir: openDir(t), events: mailbox.New[Event](1000)}
	t.Cleanup(func() {
		h.noneLeft()
		if c, err := newCgroups("domain of " + h.dir); err == nil { // of agents that were killed
			for _, dir := range c.unclaimed(nil) {
				removeCgroup(dir)
			}
			c.close()
		}
	})
	return h
}

// patience waits for cond without a Supervisor.
func patience(t *testing.T, what string, cond func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(patienceTime); !cond(); <-look.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
