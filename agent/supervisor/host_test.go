package supervisor

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/logs"
	"github.com/jmbarzee/dominion/internal/mailbox"
	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

// host is a machine with real processes: a Supervisor and the loop that an
// agent would be.
type host struct {
	t       *testing.T
	dir     string
	s       *Supervisor
	events  *mailbox.Box[Event]
	reports []string
	tokens  []string // of lives that guards are looked for
	log     bytes.Buffer
}

func newHost(t *testing.T, change ...func(*Options)) *host {
	t.Helper()
	h := &host{t: t, dir: openDir(t), events: mailbox.New[Event](1000)}
	h.open(change...)
	t.Cleanup(h.close)
	return h
}

// openDir returns a directory where the services of root's agent, which are not
// root, can write.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d, mode := range map[string]os.FileMode{dir: 0o777, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(d, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (h *host) open(change ...func(*Options)) {
	h.t.Helper()
	o := h.options()
	for _, c := range change {
		c(&o)
	}
	var err error
	if h.s, err = New(o); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) options() Options {
	return Options{
		ServicesDir: filepath.Join(h.dir, "services"),
		DataDir:     filepath.Join(h.dir, "data"),
		LogDir:      filepath.Join(h.dir, "logs"),
		Domain:      "domain of " + h.dir,
		Environment: func(string) map[string]string { return map[string]string{"DOMAIN_NAME": "here"} },
		Address:     func() string { return "127.0.0.1" },
		Version:     func(string) string { return "1.2.3" },
		Post:        h.events.Put,
		Report: func(kind topics.EventType, service, message string) {
			h.reports = append(h.reports, fmt.Sprintf("%s %s: %s", kind, service, message))
		},
		Logs: logs.New(filepath.Join(h.dir, "logs")),
		Log:  slog.New(slog.NewTextHandler(&h.log, nil)),
	}
}

// close stops all services and proves that nothing is left of them.
func (h *host) close() {
	h.s.StopAll(time.Now())
	h.until("nothing is left", h.s.Idle)
	h.s.Close()
	h.noneLeft()
	if h.t.Failed() {
		h.t.Logf("log:\n%s", h.log.String())
	}
}

// noneLeft fails for each process that was started below the test's directory,
// and ends it.
func (h *host) noneLeft() {
	for _, pid := range h.processes() {
		h.t.Errorf("process %d was left behind: %s", pid, cmdline(pid))
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// processes lists what runs with the environment of the test's services.
func (h *host) processes() []int {
	var all []int
	for _, pid := range procfs.Root.PIDs() {
		if strings.HasPrefix(procfs.Variable(procfs.Root.Environ(pid), "SERVICE_DATA_DIR"), h.dir) {
			if p, ok := procfs.Root.Stat(pid); ok && !p.Ended {
				all = append(all, pid)
			}
		}
	}
	return all
}

func cmdline(pid int) string {
	return strings.Join(procfs.Root.Args(pid), " ")
}

// patienceTime is how long a test waits for what must happen, on a machine that does
// many other things. It says nothing of how soon that should be.
const patienceTime = 2 * time.Minute

// until runs the loop until cond holds.
func (h *host) until(what string, cond func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(patienceTime)
	look := time.NewTicker(5 * time.Millisecond) // for what is not an event here
	defer look.Stop()
	for {
		late := time.Now().After(deadline) // before the last look
		h.s.Expire(time.Now())
		if cond() {
			return
		}
		if late {
			h.t.Fatalf("waited in vain until %s\ninstances %+v\nreports %s\n%s", what, h.s.Instances(), strings.Join(h.reports, "\n"), h.log.String())
		}
		select {
		case <-h.events.Ready():
			events, _ := h.events.Take()
			for _, e := range events {
				h.s.Handle(e, time.Now())
			}
		case <-look.C:
		}
	}
}

func (h *host) write(path, text string) {
	h.t.Helper()
	path = filepath.Join(h.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) remove(path string) error { return os.Remove(filepath.Join(h.dir, path)) }

// makefile writes a service whose first target runs a shell script. The
// script's name for the directory it may write to is $d.
func (h *host) makefile(service, script string) {
	h.t.Helper()
	h.write("services/"+service+"/Makefile", "run:\n\t@sh ./run.sh\n")
	h.write("services/"+service+"/run.sh", "d="+h.dir+"\n"+script+"\n")
}

func (h *host) read(path string) string {
	b, _ := os.ReadFile(filepath.Join(h.dir, path))
	return strings.TrimSpace(string(b))
}

// pid reads a process's number that a service wrote, once it has.
func (h *host) pid(path string) int {
	h.t.Helper()
	var pid int
	h.until("there is "+path, func() bool {
		n, err := strconv.Atoi(h.read(path))
		pid = n
		return err == nil
	})
	return pid
}

func (h *host) apply(specs map[string]topics.Spec) { h.s.Apply(specs, time.Now()) }

func (h *host) get(service string) topics.Instance {
	all := h.s.Instances()
	i := slices.IndexFunc(all, func(i topics.Instance) bool { return i.Service == service })
	if i < 0 {
		return topics.Instance{}
	}
	return all[i]
}

func (h *host) untilState(service string, s topics.State) topics.Instance {
	h.t.Helper()
	h.until(service+" is "+string(s), func() bool { return h.get(service).State == s })
	return h.get(service)
}

func (h *host) reported(kind topics.EventType, service string) int {
	n := 0
	for _, r := range h.reports {
		if strings.HasPrefix(r, fmt.Sprintf("%s %s:", kind, service)) {
			n++
		}
	}
	return n
}

func alive(pid int) bool {
	p, ok := procfs.Root.Stat(pid)
	return ok && !p.Ended
}

// spec is a start command's entry that restarts at once.
func spec(revision string) topics.Spec {
	return topics.Spec{
		Revision:     revision,
		Restart:      topics.RestartPolicy{Policy: topics.RestartAlways},
		StartTimeout: topics.Seconds(10 * time.Second),
		StopTimeout:  topics.Seconds(5 * time.Second),
	}
}

func one(service string, s topics.Spec) map[string]topics.Spec {
	return map[string]topics.Spec{service: s}
}
