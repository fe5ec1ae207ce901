package ctl

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

var update = flag.Bool("update", false, "write the golden files anew")

type home struct {
	Overview topics.Overview
	Events   []topics.Event
	Plan     []topics.PlanLine
	Why      topics.Why
	Version  topics.VersionView
	Devices  topics.Devices
}

func readHome(t testing.TB) home {
	t.Helper()
	b, err := os.ReadFile("testdata/golden/home.json")
	if err != nil {
		t.Fatal(err)
	}
	var h home
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// TestRender pins every picture as a pipe, a terminal of 80 columns and a
// coloured one of 120 would show it. ESC is written as "^[" in the files.
func TestRender(t *testing.T) {
	h := readHome(t)
	styles := map[string]Style{
		"pipe":  {Now: noon},
		"80":    {Now: noon, Width: 80},
		"color": {Now: noon, Width: 120, Color: true},
	}
	pictures := map[string]func(io.Writer, Style) error{
		"status":   func(w io.Writer, s Style) error { return RenderStatus(w, h.Overview, h.Events, s) },
		"empty":    func(w io.Writer, s Style) error { return RenderStatus(w, topics.Overview{}, nil, s) },
		"domains":  func(w io.Writer, s Style) error { return RenderDomains(w, h.Overview.Domains, s) },
		"services": func(w io.Writer, s Style) error { return RenderServices(w, h.Overview.Services, s) },
		"devices":  func(w io.Writer, s Style) error { return RenderDevices(w, h.Devices, s) },
		"nobody":   func(w io.Writer, s Style) error { return RenderDevices(w, topics.Devices{}, s) },
		"wrong":    func(w io.Writer, s Style) error { return RenderDeviceProblems(w, h.Devices, s) },
		"right":    func(w io.Writer, s Style) error { return RenderDeviceProblems(w, topics.Devices{}, s) },
		"events":   func(w io.Writer, s Style) error { return RenderEvents(w, h.Events, s) },
		"plan":     func(w io.Writer, s Style) error { return RenderPlan(w, h.Plan, s) },
		"noplan":   func(w io.Writer, s Style) error { return RenderPlan(w, nil, s) },
		"why":      func(w io.Writer, s Style) error { return RenderWhy(w, h.Why, s) },
		"describe": func(w io.Writer, s Style) error { return RenderDescription(w, describedService(h), s) },
		"lost": func(w io.Writer, s Style) error {
			return RenderDescription(w, Description{Domain: &h.Overview.Domains[2]}, s)
		},
		"machine": func(w io.Writer, s Style) error { return RenderDescription(w, describedDomain(h), s) },
		"version": func(w io.Writer, s Style) error { return RenderVersion(w, h.Version, &h.Version, s) },
		"clients": func(w io.Writer, s Style) error { return RenderClients(w, someClients(), s) },
		"alone":   func(w io.Writer, s Style) error { return RenderVersion(w, h.Version, nil, s) },
	}
	for picture, draw := range pictures {
		for style, s := range styles {
			t.Run(picture+"-"+style, func(t *testing.T) {
				var b bytes.Buffer
				if err := draw(&b, s); err != nil {
					t.Fatal(err)
				}
				checkColumns(t, b.String(), s)
				golden(t, picture+"-"+style+".txt", strings.ReplaceAll(b.String(), "\x1b", "^["))
			})
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./ctl -update writes it anew):\n%s\nwant:\n%s", name, got, want)
	}
}

// checkColumns holds for every picture: nothing is wider than the terminal,
// and without colour no escape comes through.
func checkColumns(t *testing.T, got string, s Style) {
	t.Helper()
	if s.Color {
		for _, tint := range []tint{bold, faint, red, green, yellow, boldRed} {
			got = strings.ReplaceAll(got, "\x1b["+string(tint)+"m", "")
		}
		got = strings.ReplaceAll(got, "\x1b[0m", "")
	}
	for line := range strings.SplitSeq(got, "\n") {
		if s.Width > 0 && displayWidth(line) > s.Width {
			t.Errorf("%d columns wide: %q", displayWidth(line), line)
		}
		if i := strings.IndexFunc(line, unsafeRune); i >= 0 {
			t.Errorf("control character in %q", line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("spaces at the end of %q", line)
		}
	}
}

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain words", "plain words"},
		{"größer 気温 ☂", "größer 気温 ☂"},
		{"\x1b[1;31mred\x1b[0m", "red"},
		{"\x1b]0;title\x07after", "after"},
		{"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"},
		{"\x1bPq#0;2;0\x1b\\x", "x"},
		{"unfinished \x1b]0;title", "unfinished"},
		{"unfinished \x1b[31", "unfinished"},
		{"\x1bc reset", " reset"},
		{"\u009b31mred", "red"},
		{"bell\x07 back\x08 del\x7f nul\x00.", "bell  back  del  nul ."},
		{"10%\r20%", "10% 20%"},
		{"abc\u202etxt.exe", "abc txt.exe"},
		{"bad \xff byte", "bad \uFFFD byte"},
		{"\x9b31m", "\uFFFD31m"}, // a lone byte is no C1 character in UTF-8
	} {
		if got := cleanLine(c.in); got != c.want {
			t.Errorf("cleanLine(%q) = %q, want %q", c.in, got, c.want)
		}
	}
	if got := cleanLogLine("a\tb\x1b[2J\tc"); got != "a\tb\tc" {
		t.Errorf("cleanLogLine: %q", got)
	}
	in := "{\n  \"a\": \"x\u009b\u202e\x7fö\xff\"\n}"
	got := cleanJSON([]byte(in))
	if want := "{\n  \"a\": \"x\\u009b\\u202e\\u007fö\uFFFD\"\n}"; string(got) != want {
		t.Errorf("cleanJSON: %q, want %q", got, want)
	}
}

// FuzzClean holds for anything a service may write: what is printed orders
// nothing.
func FuzzClean(f *testing.F) {
	f.Add("\x1b[31mred\x1b]0;x\x07\u009b2J\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		if got := cleanLine(s); strings.IndexFunc(got, unsafeRune) >= 0 {
			t.Errorf("cleanLine(%q) = %q", s, got)
		}
		if got := cleanLine(cleanLine(s)); got != cleanLine(s) {
			t.Errorf("cleanLine of %q is not at rest", s)
		}
		doc, err := json.Marshal(s)
		if err != nil {
			t.Skip()
		}
		clean := cleanJSON(doc)
		var before, after string
		if json.Unmarshal(doc, &before) != nil || json.Unmarshal(clean, &after) != nil || before != after {
			t.Errorf("cleanJSON(%q) = %q", doc, clean)
		}
	})
}

func TestTimes(t *testing.T) {
	at := func(d time.Duration) topics.Time { return topics.At(noon.Add(-d)) }
	for _, c := range []struct {
		in    topics.Time
		ago   string
		clock string
	}{
		{topics.Time{}, "", ""},
		{at(0), "just now", "12:00:00"},
		{at(-30 * time.Second), "just now", "12:00:30"},
		{at(-3 * time.Minute), "in 3m", "12:03:00"},
		{at(59 * time.Second), "59s ago", "11:59:01"},
		{at(3*time.Minute + 59*time.Second), "3m ago", "11:56:01"},
		{at(47 * time.Hour), "47h ago", "Mar  2 13:00:00"},
		{at(50 * 24 * time.Hour), "50d ago", "Jan 13 12:00:00"},
		{at(400 * 24 * time.Hour), "400d ago", "2025-01-28 12:00:00"},
	} {
		if got := ago(c.in, noon); got != c.ago {
			t.Errorf("ago(%v) = %q, want %q", c.in, got, c.ago)
		}
		if got := clock(c.in, noon); got != c.clock {
			t.Errorf("clock(%v) = %q, want %q", c.in, got, c.clock)
		}
	}
}

// describedService is what describe shows of the service web.
func describedService(h home) Description {
	d := Description{Why: &h.Why, Events: h.Events, Instances: make(map[string]topics.Instance)}
	for _, v := range h.Overview.Services {
		if v.Service == "web" {
			d.Service = &v
		}
	}
	for _, domain := range h.Overview.Domains {
		if i, reported := instanceOn(domain, "web"); reported {
			d.Instances[domain.Name] = i
		}
	}
	d.Metrics = map[string]topics.Metrics{"pi-kitchen": {Services: map[string]topics.Usage{"web": {CPU: 0.25, Memory: 31e6}}}}
	return d
}

// describedDomain is what describe shows of the domain pi-kitchen.
func describedDomain(h home) Description {
	d := Description{Events: h.Events}
	for _, v := range h.Overview.Domains {
		if v.Name == "pi-kitchen" {
			d.Domain = &v
		}
	}
	warm := 48.2
	d.Metrics = map[string]topics.Metrics{"pi-kitchen": {
		Load1: 0.42, Cores: 4, MemoryUsed: 410e6, MemoryTotal: 1e9, DiskFree: 21e9, Temperature: &warm,
	}}
	return d
}

// A machine that waits for adoption and announces itself is counted as it is shown: as waiting, once.
func TestCountOfWaitingMachines(t *testing.T) {
	o := topics.Overview{
		Hub:     topics.Hub{Name: "home", Ready: true, Domains: topics.DomainCount{Online: 1, Lonely: 2}},
		Domains: []topics.DomainView{{Name: "a", State: topics.DomainIsOnline}, {Name: "b", State: topics.DomainIsWaiting}, {Name: "c", State: topics.DomainIsLonely}},
	}
	var text strings.Builder
	if err := RenderStatus(&text, o, nil, Style{Width: 120}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "domains: 1 online, 1 waiting, 1 lonely") {
		t.Error(text.String())
	}
}
