package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/ctl"
	"github.com/jmbarzee/dominion/topics"
)

// playParent names the directory of a program that this test binary is to start
// as the demo does, in a process that can be killed.
const playParent = "DEMO_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(playParent); dir != "" {
		if err := newProcess("hub", dir+"/hub", dir, "hub.toml").start(make(chan error, 1)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		select {}
	}
	os.Exit(m.Run())
}

const examples = "../services/examples"

func TestConfigsAreValid(t *testing.T) {
	for name, python := range map[string]bool{"with Python": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			h := newLayout(t.TempDir(), "127.0.0.1:1883", python)
			if err := h.writeConfigs(examples, python); err != nil {
				t.Fatal(err)
			}
			hub, err := config.LoadDominion(filepath.Join(h.dir, "dominion.toml"), nil)
			if err != nil {
				t.Fatal(err)
			}
			var offered []string
			for _, d := range h.domains {
				c, err := config.LoadDomain(filepath.Join(h.dir, d.name+".toml"), nil)
				if err != nil {
					t.Fatal(err)
				}
				offered = append(offered, c.Traits...)
			}
			var names []string
			for _, s := range hub.Services {
				names = append(names, s.Name)
				for _, trait := range s.Traits {
					if !slices.Contains(offered, trait) {
						t.Errorf("%s needs %q, no domain offers it", s.Name, trait)
					}
				}
				if _, err := os.Stat(filepath.Join(examples, s.Name, "Makefile")); err != nil {
					t.Errorf("%s is no service: %v", s.Name, err)
				}
				if _, err := config.LoadService(filepath.Join(examples, s.Name, "service.toml")); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(names, h.services) {
				t.Errorf("services %v, waits for %v", names, h.services)
			}
		})
	}
}

func TestHealthy(t *testing.T) {
	service := func(name string, wanted, running, healthy int) topics.Service {
		return topics.Service{Service: name, Wanted: wanted, Running: running, Healthy: healthy}
	}
	for _, c := range []struct {
		name string
		all  []topics.Service
		want bool
	}{
		{"all", []topics.Service{service("lamp", 1, 1, 1), service("web", 2, 2, 2)}, true},
		{"one unhealthy", []topics.Service{service("lamp", 1, 1, 1), service("web", 2, 2, 1)}, false},
		{"one not wanted", []topics.Service{service("lamp", 1, 1, 1), service("web", 0, 0, 0)}, false},
		{"one missing", []topics.Service{service("lamp", 1, 1, 1)}, false},
	} {
		p := picture{overview: topics.Overview{Hub: topics.Hub{Ready: true}, Services: c.all}}
		if got := p.healthy([]string{"lamp", "web"}); got != c.want {
			t.Errorf("%s: healthy %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFrameFits(t *testing.T) {
	h := newLayout("/tmp/x", "127.0.0.1:41234", true)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := picture{overview: topics.Overview{
		Hub:     topics.Hub{ID: "1", Name: "demo", Ready: true},
		Domains: []topics.DomainView{{Name: "attic", State: topics.DomainIsOnline}, {Name: "kitchen", State: topics.DomainIsOnline}},
		Services: []topics.Service{{
			Service: "web", State: topics.Running, Wanted: 1, Running: 1, Healthy: 1,
			Instances: []topics.ServiceInstance{{Domain: "attic", State: topics.Running, Address: "127.0.0.1", Port: 20000}},
		}},
	}}
	for range eventLimit {
		p.events = append(p.events, topics.Event{At: topics.At(now), Type: topics.ServiceReady, Service: "web", Domain: "attic", Message: "is healthy"})
	}
	for _, size := range []struct{ width, height int }{{80, 24}, {200, 60}, {80, 15}, {40, 10}, {1, 1}} {
		lines, err := frame(p, h, ctl.Style{Width: size.width, Now: now}, size.height)
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) > size.height {
			t.Errorf("%d lines in a terminal of %d", len(lines), size.height)
		}
		all := strings.Join(lines, "\n")
		if size.height == 15 && (!strings.Contains(all, "attic:20000") || !strings.Contains(all, "Ctrl-C ends")) {
			t.Errorf("%dx%d: no services, or not how to end, in\n%s", size.width, size.height, all)
		}
		if size.width >= 80 && size.height >= 24 {
			for _, want := range []string{"attic", "is healthy", "mosquitto_sub -h 127.0.0.1 -p 41234", "http://127.0.0.1:20000/brightness"} {
				if !strings.Contains(all, want) {
					t.Errorf("%dx%d: no %q in\n%s", size.width, size.height, want, all)
				}
			}
		}
	}
}

// What does not fit is counted, and the key ? shows what the picture is about.
func TestFrameCuts(t *testing.T) {
	h := newLayout("/tmp/x", "127.0.0.1:41234", true)
	p := picture{overview: topics.Overview{Hub: topics.Hub{ID: "1", Name: "demo", Ready: true}}}
	for i := range 30 {
		p.overview.Services = append(p.overview.Services, topics.Service{Service: fmt.Sprintf("service-%d", i), State: topics.Running, Wanted: 1, Running: 1, Healthy: 1})
	}
	text := func() string {
		lines, err := frame(p, h, ctl.Style{Width: 80}, 24)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	shown := strings.Count(text(), "service-")
	if want := fmt.Sprintf("… %d more", 30-shown); !strings.Contains(text(), want) {
		t.Errorf("no %q in\n%s", want, text())
	}
	h.helpShown = true
	if !strings.Contains(text(), "dominionctl status") || strings.Contains(text(), "service-0") {
		t.Errorf("no explanation in\n%s", text())
	}
}

// What outlived its domain is found by its data directory, and nothing else is.
func TestKillLeft(t *testing.T) {
	h := newLayout(t.TempDir(), "127.0.0.1:1", false)
	run := func(dir string) *exec.Cmd {
		cmd := exec.Command("sleep", "1000")
		cmd.Env = []string{"A=b", "SERVICE_DATA_DIR=" + dir}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd
	}
	ours, other := run(h.dir+"/attic/web"), run(h.dir+"-other/attic/web")
	if err := h.killRemaining(); err == nil {
		t.Error("nothing was found")
	}
	if err := ours.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("ours: %v", err)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("somebody else's process: %v", err)
	}
	if err := h.killRemaining(); err != nil {
		t.Errorf("nothing is left: %v", err)
	}
}

// A program that ends at once is reported instead of started for ever.
func TestEndsAtOnce(t *testing.T) {
	h := newLayout(t.TempDir(), "127.0.0.1:1", false)
	for _, name := range []string{"hub", "attic"} {
		h.programs = append(h.programs, newProcess(name, "/bin/false", h.dir, name+".toml"))
	}
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	if err := <-h.ended; err == nil || !strings.Contains(err.Error(), "ended at once") {
		t.Errorf("a program that ended at once: %v", err)
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
}

// A demo that is killed leaves no program behind.
func TestItsProgramsEndWithIt(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "life") // open for writing as long as the program lives
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hub"), []byte("#!/bin/sh\nexec 3>"+fifo+"\necho started >&3\nexec sleep 200\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	demo := exec.Command(os.Args[0])
	demo.Env = append(os.Environ(), playParent+"="+dir)
	demo.Stderr = os.Stderr
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	life, err := os.Open(fifo) // waits for the program
	if err != nil {
		t.Fatal(err)
	}
	defer life.Close()
	lines := bufio.NewReader(life)
	if got, err := lines.ReadString('\n'); got != "started\n" {
		t.Fatalf("read %q, %v", got, err)
	}
	began := time.Now()
	if err := demo.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = demo.Wait()
	if _, err := lines.ReadString('\n'); err != io.EOF || time.Since(began) > 100*time.Second {
		t.Errorf("the program ended %v after the demo was killed (%v)", time.Since(began), err)
	}
}
