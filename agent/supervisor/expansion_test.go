package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
	"github.com/jmbarzee/dominion/topics/topicstest"
)

const dollars = `pa$$w0rd$HOME#1`

// shows is a recipe that writes a variable to $d/NAME byte for byte, once it is
// all there.
func shows(name string) string {
	return `printf %s "$` + name + `" > $d/` + name + `.new; mv $d/` + name + `.new $d/` + name + `; exec sleep 100`
}

func (h *host) written(name string) string {
	file := filepath.Join(h.dir, name)
	h.until(name+" is shown", func() bool { _, err := os.Stat(file); return err == nil })
	b, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

func TestFreeTextArrivesByteForByte(t *testing.T) {
	const text = dollars + "\n\\ `x` $(shell touch F) ;'\" ä"
	for name, makes := range map[string]func(h *host){
		"make": func(h *host) { h.makefile("web", shows("PASSWORD")) },
		"command": func(h *host) {
			h.write("services/web/service.toml", "command = [\"sh\", \"run.sh\"]\n")
			h.write("services/web/run.sh", "d="+h.dir+"\n"+shows("PASSWORD"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			makes(h)
			s := spec("r1")
			s.Environment = map[string]string{"PASSWORD": text}
			h.apply(one("web", s))
			if got := h.written("PASSWORD"); got != text {
				t.Errorf("%q, want %q", got, text)
			}
		})
	}
}

// A Makefile that has make expand a value with a $ is not started with one.
func TestExpandedTextIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ makefile, want string }{
		"named":    {"run:\n\t@echo $(PASSWORD)\n", `Makefile:2 names it as $(PASSWORD): write "$$PASSWORD" in the recipe`},
		"included": {"include a.mk\nrun:\n", `a.mk:1 names it as $(PASSWORD)`},
		"unclear":  {"include $(HERE)\nrun:\n", `cannot be determined`},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.write("services/web/Makefile", tt.makefile)
			h.write("services/web/a.mk", "A := $(PASSWORD)\n")
			s := spec("r1")
			s.Environment = map[string]string{"PASSWORD": dollars}
			h.apply(one("web", s))
			if i := h.get("web"); i.State != topics.Failed || !strings.Contains(i.Message, tt.want) {
				t.Errorf("%+v", i)
			}
			s.Revision, s.Environment = "r2", map[string]string{"PASSWORD": "plain"}
			h.apply(one("web", s))
			if i := h.get("web"); strings.Contains(i.Message, "PASSWORD") {
				t.Errorf("without a $: %+v", i)
			}
		})
	}
}

// Nor is one that make reads behind another program; what a program of the
// service's own runs is its own affair.
func TestExpandedTextIsRefusedBehindOtherPrograms(t *testing.T) {
	for command, want := range map[string]string{
		`["nice", "-n", "5", "make", "run"]`:    "Makefile:2 names it as $(PASSWORD)",
		`["env", "A=b", "/usr/bin/make"]`:       "Makefile:2 names it as $(PASSWORD)",
		`["nice", "make", "-f", "other.mk"]`:    "-f is an option of make that is not understood",
		`["sh", "-c", "cd . && exec make run"]`: "a shell runs make",
		`["sh", "-c", "echo makes; exit 1"]`:    "",
	} {
		t.Run(command, func(t *testing.T) {
			h := newHost(t)
			h.write("services/web/service.toml", "command = "+command+"\n")
			h.write("services/web/Makefile", "run:\n\t@echo $(PASSWORD)\n")
			s := spec("r1")
			s.Environment = map[string]string{"PASSWORD": dollars}
			h.apply(one("web", s))
			if i := h.get("web"); (want != "") != strings.Contains(i.Message, "PASSWORD") || !strings.Contains(i.Message, want) {
				t.Errorf("%+v, want %q", i, want)
			}
		})
	}
}

func TestAcceptLocal(t *testing.T) {
	h := newHost(t)
	h.s.o.Accept = config.AcceptLocal
	h.makefile("web", shows("COLOUR"))
	s := spec("r1")
	s.Environment = map[string]string{"COLOUR": "blue", "MQTT_USER": "me"}
	h.apply(one("web", s))
	if i := h.get("web"); i.State != topics.Failed || !strings.Contains(i.Message, "COLOUR, MQTT_USER") || !strings.Contains(i.Message, `variables = ["COLOUR", "MQTT_USER"]`) {
		t.Errorf("%+v", i)
	}
	h.write("services/web/service.toml", "variables = [\"COLOUR\", \"MQTT_*\"]\n")
	if err := h.s.Restart("web", time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := h.written("COLOUR"); got != "blue" {
		t.Errorf("%q", got)
	}
	pid := h.get("web").PID
	s.Revision, s.Environment = "r2", map[string]string{"PYTHONPATH": "/tmp"}
	h.apply(one("web", s))
	if i := h.get("web"); i.PID != pid || !strings.Contains(i.Message, "PYTHONPATH") {
		t.Errorf("what runs was disturbed: %+v", i)
	}
	h.write("env", "\ufeffSECRET=1\n")
	s.Revision, s.Environment, s.EnvironmentFile = "r3", nil, filepath.Join(h.dir, "env")
	h.apply(one("other", s))
	h.makefile("other", `exec sleep 100`)
	if err := h.s.Restart("other", time.Now()); err != nil {
		t.Fatal(err)
	}
	if i := h.get("other"); !strings.Contains(i.Message, "SECRET") {
		t.Errorf("%+v", i)
	}
}

// TestNothingOrderedIsInterpreted puts hostile text into each field of what a
// service is ordered as, also into those that are added later. With make, whose
// Makefile reads what is typed as $(X), and with a command.
func TestNothingOrderedIsInterpreted(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make here")
	}
	h := newHost(t)
	file := filepath.Join(h.dir, "F")
	h.write("services/made/Makefile", `A := $(SERVICE_PORT) $(SERVICE_VERSION) $(SERVICE_NAME) $(DEPENDENCY_PI_KITCHEN) $(DOMAIN_NAME) $(TRAIT_MODE)
run:
	: $(A) $(DEPENDENCY_PI_KITCHEN) "$$COLOUR"
	exec sleep 100
`)
	h.write("services/run/service.toml", "command = [\"sh\", \"-c\", \": \\\"$COLOUR\\\"; exec sleep 100\"]\n")
	n := 0
	for _, attack := range topicstest.Attacks(file) {
		for _, v := range topicstest.Variants(topics.Spec{}, attack) {
			s, err := topics.DecodeForDisplay[topics.Spec]("", v.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(v.Field, "environment_file") {
				s.EnvironmentFile = ""
			}
			n++
			s.Port, s.Exclusive, s.Health = 0, false, nil
			if s.Revision = topics.NewID(); v.Field == "revision" {
				s.Revision = attack
			}
			if strings.HasPrefix(v.Field, "health.") {
				continue // text that is compared, or asked for
			}
			h.apply(map[string]topics.Spec{"made": s, "run": s})
			for _, service := range []string{"made", "run"} {
				if i := h.get(service); i.State.Alive() {
					h.untilState(service, topics.Running)
				}
				if _, err := os.Stat(file); err == nil {
					t.Fatalf("%s: %q as %s was interpreted", service, attack, v.Field)
				}
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d were tried", n)
	}
}
