package supervisor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

func TestChecks(t *testing.T) {
	h := newHost(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	h.makefile("tcp", `exec sleep 100`)
	h.makefile("notify", notifies(t, "STATUS=warm;READY=1;")+"exec sleep 100")
	h.makefile("command", `exec sleep 100`)
	h.write("services/command/service.toml", "[health]\ncommand = [\"sh\", \"-c\", \"test -e well && test $SERVICE_NAME = command\"]\ninterval = \"50ms\"\nfailures = 2\n")
	tcp, notify, command := spec("r1"), spec("r1"), spec("r1")
	tcp.Port = port
	tcp.Health = &topics.HealthCheck{TCP: true, Interval: topics.Seconds(20 * time.Millisecond), Failures: 2}
	notify.Health = &topics.HealthCheck{Notify: true}
	h.apply(map[string]topics.Spec{"tcp": tcp, "notify": notify, "command": command})
	if n := h.untilState("notify", topics.Running); n.Health != topics.Healthy || n.Message != "warm" {
		t.Errorf("%+v", n)
	}
	for _, name := range []string{"tcp", "command"} {
		if got := h.get(name).State; got != topics.Starting {
			t.Errorf("%s is %s before its check is good", name, got)
		}
	}
	if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		t.Fatal(err)
	}
	defer func() { l.Close() }()
	h.untilState("tcp", topics.Running)
	l.Close()
	h.until("tcp is unhealthy", func() bool { return h.get("tcp").Health == topics.Unhealthy })
	if i := h.get("tcp"); i.State != topics.Running || !strings.Contains(i.Message, "nothing listens on port") {
		t.Errorf("%+v", i)
	}
	if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		t.Fatal(err)
	}
	h.until("tcp is healthy", func() bool { return h.get("tcp").Health == topics.Healthy })

	h.write("services/command/well", "")
	h.untilState("command", topics.Running)
	os.Remove(h.dir + "/services/command/well")
	h.until("command is unhealthy", func() bool { return h.get("command").Health == topics.Unhealthy })
	if i := h.get("command"); !strings.Contains(i.Message, "sh: exited with code 1") || i.Restarts != 0 {
		t.Errorf("%+v", i)
	}
}

func TestACheckThatHangsIsKilledAndNeverOverlaps(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `exec sleep 100`)
	h.write("services/web/service.toml", "[health]\ncommand = [\"sh\", \"-c\", \"echo $$ >> "+h.dir+"/checks; sleep 100 & wait\"]\ninterval = \"10ms\"\ntimeout = \"50ms\"\n")
	s := spec("r1")
	s.StartTimeout = topics.Seconds(4 * time.Second) // for two checks, also on a crowded machine
	s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(time.Hour), topics.Seconds(time.Hour)
	h.apply(one("web", s))
	worst := 0
	h.until("it gave up", func() bool {
		if n := len(h.processes()); n > worst {
			worst = n
		}
		return h.get("web").State == topics.Backoff
	})
	if n := len(strings.Fields(h.read("checks"))); n < 2 {
		t.Errorf("%d checks", n)
	}
	// make and sleep of the service; sh and sleep of one check, twice while one is just killed
	if worst > 6 {
		t.Errorf("%d processes at once", worst)
	}
	if i := h.get("web"); !strings.Contains(i.Message, "it was not ready within 4 s: no answer within 50 ms (raise start_timeout") {
		t.Errorf("message %q", i.Message)
	}
}

func TestHTTPCheck(t *testing.T) {
	h := newHost(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/broken", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := httptest.NewServer(mux)
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	for path, want := range map[string]string{
		"/health": "", "health": "", "/moved": "", "/health?x=1": "",
		"/broken": "GET /broken answered 418 I'm a teapot", "/none": "GET /none answered 404 Not Found",
		"/hangs": "context deadline exceeded", "/%zz": `invalid URL escape "%zz"`,
	} {
		timeout := patienceTime
		if path == "/hangs" {
			timeout = 200 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		err := h.s.checkHTTP(ctx, "", port, path)
		cancel()
		switch {
		case want == "" && err != nil, want != "" && err == nil, err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	server.Close()
	if err := h.s.checkHTTP(t.Context(), "127.0.0.1", port, "/health"); err == nil || !strings.Contains(err.Error(), "nothing listens on port") {
		t.Errorf("%v", err)
	}
}

// A service that listens on the machine's network address alone is found.
func TestTCPCheckOnTheAddress(t *testing.T) {
	h := newHost(t)
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if err := h.s.checkTCP(t.Context(), "127.0.0.2", port); err != nil {
		t.Error(err)
	}
	if err := h.s.checkTCP(t.Context(), "", port); err == nil {
		t.Error("found on loopback, where it is not")
	}
}

// What a command of a check or of a trait starts ends with it, also in a session
// of its own, whether the command ends or hangs.
func TestNothingOfACheckIsLeft(t *testing.T) {
	h := newHost(t)
	for name, end := range map[string]string{"ends": "exit 0", "hangs": "wait"} {
		t.Run(name, func(t *testing.T) {
			pids := filepath.Join(t.TempDir(), "pids")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			script := `sleep 1000 & echo $! >>` + pids + `; setsid sh -c 'echo $$ >>` + pids + `; sleep 1000 & echo $! >>` + pids + `; echo well; wait' & ` +
				`while [ "$(wc -l <` + pids + `)" -lt 3 ]; do sleep 0.01; done; ` + end
			if name == "hangs" {
				go func() {
					for {
						if b, _ := os.ReadFile(pids); strings.Count(string(b), "\n") == 3 {
							cancel()
							return
						}
						time.Sleep(time.Millisecond)
					}
				}()
			}
			out, err := h.s.Output(ctx, []string{"sh", "-c", script}, 100)
			if (err == nil) != (name == "ends") || strings.TrimSpace(out) != "well" {
				t.Errorf("%q, %v", out, err)
			}
			b, _ := os.ReadFile(pids)
			for _, f := range strings.Fields(string(b)) {
				pid, _ := strconv.Atoi(f)
				patience(t, "it has ended: "+cmdline(pid), func() bool { return !alive(pid) })
			}
		})
	}
}
