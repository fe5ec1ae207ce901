package supervisor

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Each end is explained from the first time on, and what cannot start on this
// machine is shown as failed at once, which is what other domains are tried for.
func TestEndsAreExplainedFromTheFirst(t *testing.T) {
	for name, tt := range map[string]struct {
		makefile, script string
		state            topics.State
		want             string
	}{
		"its last line":        {"run:\n\t@echo starting; echo 'no config' >&2; exit 3\n", "", topics.Backoff, "exited with code 3: no config;"},
		"of stdout":            {"run:\n\t@echo 'no database'; exit 1\n", "", topics.Backoff, "exited with code 1: no database;"},
		"nothing written":      {"run:\n\t@exit 4\n", "", topics.Backoff, "exited with code 4;"},
		"a make within make":   {"run:\n\t@$(MAKE) -s sub\nsub:\n\t@echo deep >&2; exit 5\n", "", topics.Backoff, "exited with code 5: deep;"},
		"a signal":             {"run:\n\t@kill -SEGV $$$$\n", "", topics.Backoff, "ended by a signal: Segmentation fault"},
		"no such program":      {"run:\n\t@nosuchprogram --serve\n", "", topics.Failed, "exited with code 127: "},
		"not executable":       {"run:\n\t@./readme\n", "", topics.Failed, "ermission denied"},
		"no such target":       {"other:\n\t@sleep 100\n", "", topics.Failed, "make: No rule to make target 'run'."},
		"address in use":       {"run:\n\t@echo 'listen tcp :80: bind: address already in use' >&2; exit 1\n", "", topics.Failed, "exited with code 1: listen tcp :80: bind: address already in use;"},
		"the target is a file": {"run:\n\t@exec sleep 100\n", "", topics.Failed, "'run' is up to date: a file or directory has the name"},
		"code 0":               {"run:\n\t@true\n", "", topics.Backoff, "exited with code 0 (a service stays in the foreground"},
		"without make":         {"", "#!/bin/sh\necho oops >&2\nexit 2\n", topics.Backoff, "exited with code 2: oops;"},
		"a script's program":   {"", "#!/bin/sh\nexec nosuchprogram\n", topics.Failed, "nosuchprogram: "},
		"coloured":             {"", "#!/bin/sh\nprintf '\\033[31mred\\033[0m\\n'\nexit 2\n", topics.Backoff, "exited with code 2: red;"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			if tt.makefile != "" {
				h.write("services/web/Makefile", tt.makefile)
			} else {
				h.write("services/web/service.toml", `command = ["./start"]`)
				h.write("services/web/start", tt.script)
				if err := os.Chmod(h.dir+"/services/web/start", 0o755); err != nil {
					t.Fatal(err)
				}
			}
			h.write("services/web/readme", "")
			if err := os.Chmod(h.dir+"/services/web/readme", 0o644); err != nil {
				t.Fatal(err)
			}
			if name == "the target is a file" {
				h.write("services/web/run", "")
			}
			s := spec("r1")
			s.Target = "run"
			s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(time.Hour), topics.Seconds(time.Hour)
			h.apply(one("web", s))
			want, whole := strings.CutSuffix(tt.want, ";")
			if i := h.untilState("web", tt.state); !strings.Contains(i.Message, want) || whole && i.Message != want {
				t.Errorf("message %q, want %q", i.Message, tt.want)
			}
		})
	}
}

// What a life before wrote does not explain this one.
func TestAnEndIsNotExplainedByALifeBefore(t *testing.T) {
	h := newHost(t)
	h.write("services/web/Makefile", "run:\n\t@test -e "+h.dir+"/again || { touch "+h.dir+"/again; echo before >&2; exit 1; }; exit 6\n")
	s := spec("r1")
	s.Restart.Delay = topics.Seconds(time.Millisecond)
	h.apply(one("web", s))
	h.until("the second end", func() bool { return strings.HasPrefix(h.get("web").Message, "exited with code 6;") })
}

// A port that this user may not listen on is not taken by another program.
func TestAPortThatMayNotBeUsed(t *testing.T) {
	p := &ports{assigned: map[string]int{}}
	for err, want := range map[error]string{
		syscall.EADDRINUSE:    "port 80 is taken by another program",
		syscall.EACCES:        "may not listen on port 80",
		syscall.EADDRNOTAVAIL: "nothing can listen on port 80 of this domain: cannot assign",
	} {
		p.check = func(int) error { return err }
		if _, got := p.assign("web", 80); got == nil || !strings.Contains(got.Error(), want) {
			t.Errorf("%v: %v, want %q", err, got, want)
		}
	}
}
