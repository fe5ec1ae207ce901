package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/jmbarzee/dominion/topics"
)

// hostile are texts that cost a reader without limits seconds or gigabytes.
var hostile = map[string]string{
	"nested lists":         "x=" + strings.Repeat("[", 1<<18-2),
	"nested lists, closed": "x=" + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
	"nested tables":        "x=" + strings.Repeat("{a=", 80_000),
	"parts of a key":       strings.Repeat("a.", 25_000) + "a=1",
	"parts of a header":    "[" + strings.Repeat("a.", 100_000) + "a]",
	"parts, in quotes":     strings.Repeat(`"a".`, 50_000) + "a=1",
	"parts, in a table":    "x={" + strings.Repeat("a.", 100_000) + "a=1}",
	"parts, over lines":    "x={\n" + strings.Repeat("a.\n", 80_000) + "a=1}",
	"two long names":       "[services." + strings.Repeat("a", 120_000) + "]\n[services." + strings.Repeat("b", 120_000) + "]",
	"two long quoted":      "[services.'" + strings.Repeat("a", 120_000) + "']\n[services.\"" + strings.Repeat("b", 120_000) + "\"]",
	"long number":          "x=1" + strings.Repeat("0", 1<<18-3),
	"many dependencies":    "[services.a]\ndependencies=[" + numbered(5000, `"b%04d",`) + "]",
	"many services":        numbered(12_000, "[services.s%d]\n"),
	"many unknown keys":    numbered(20_000, "k%d=1\n"),
	"unknown, in services": numbered(2000, "[services.s%d]\n") + numbered(12_000, "k%d=1\n"),
	"many elements":        "x=[" + strings.Repeat("1,", 100_000) + "]",
	"many arrays of":       strings.Repeat("[[a]]\n", 40_000),
	"long table, many":     "[" + strings.Repeat(strings.Repeat("a", 120)+".", 4) + "a]\n" + numbered(30_000, "k%d=1\n"),
	"long range":           "[services.a]\nversion=\"" + strings.Repeat(">=1 ", 60_000) + "\"",
	"alternatives":         "[services.a]\nversion=\"" + strings.Repeat("1||", 60_000) + "1\"",
	"circles":              circles(2000),
	"misspelt":             numbered(2000, "[services.service-%d]\ndependencies=[\"servce-x\"]\n"),
	"comments":             strings.Repeat("#\n", 1<<17),
	"open string":          "x=\"" + strings.Repeat("a", 1<<18-4),
	"escapes":              "x=\"" + strings.Repeat(`\u0041`, 43_000) + `"`,
	"quotes":               "x=" + strings.Repeat(`"`, 1<<18-3),
	"long messages":        "[services.a]\ntarget=\"" + strings.Repeat("%", 260_000-30) + "\"",
}

func numbered(n int, format string) string {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, format, i)
	}
	return all.String()
}

// circles is a chain of services of which each depends on all that are a power
// of two before it, and so on many circles.
func circles(n int) string {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "[services.s%d]\ndependencies=[\"s%d\",\"s%d\",\"s0\"]\n", i, (i+1)%n, (i+n/2)%n)
	}
	return all.String()
}

// cost returns what f allocates, in bytes, and how long it takes.
func cost(f func()) (bytes uint64, took time.Duration) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	f()
	took = time.Since(began)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, took
}

// What a text costs is in proportion to its length: 600 bytes a byte and 5 s
// are far above what any takes, and far below what the square of it would.
const (
	bytesPerByte = 600
	longestParse = 5 * time.Second
)

// Whatever a text holds, services and service.toml are read in a time and a
// memory in proportion to its length, and what is said of it is short.
func TestHostileTexts(t *testing.T) {
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			text := text[:min(len(text), topics.MaxConfig)]
			var err error
			bytes, took := cost(func() { _, err = ParseServices(text, nil) })
			if limit := uint64(len(text))*bytesPerByte + 1<<20; bytes > limit || took > longestParse {
				t.Errorf("%d bytes of text: allocated %d of at most %d, took %v", len(text), bytes, limit, took)
			}
			if err != nil && len(err.Error()) > 8<<10 {
				t.Errorf("%d bytes of message", len(err.Error()))
			}
			file := filepath.Join(t.TempDir(), "service.toml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			bytes, took = cost(func() { _, err = LoadService(file) })
			if limit := uint64(len(text))*bytesPerByte + 1<<20; bytes > limit || took > longestParse {
				t.Errorf("service.toml: %d bytes of text: allocated %d of at most %d, took %v", len(text), bytes, limit, took)
			}
		})
	}
}

// The limits leave room for every file that people write.
func TestRealFilesAreWithinBounds(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if line, problem := checkBounds(string(text)); problem != "" {
			t.Errorf("%s:%d: %s", file, line, problem)
		}
	}
	big := numbered(1000, "[services.service-%04d]\npriority = \"required\"\nport = 8080\nhealth = { http = \"/health\", interval = \"5s\" }\ndependencies = [\"a\", \"b\"] # 1.2.3\n[services.x.environment]\nA = \"\"\"[[[[[[[[[[[[[[[[[[{{{{{{{{\"\"\"\n")
	if line, problem := checkBounds(big); problem != "" {
		t.Errorf("line %d: %s", line, problem)
	}
}

func TestBoundsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"a=1\nb=2\nc=[[[[[[[[[[[[[[[[[[[[":     ":3: tables, lists",
		"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q=1":  ":1: tables, lists",
		"[a.b]\n\"" + strings.Repeat("k", 129): ":2: a key of 130 bytes",
		"x = " + strings.Repeat("1", 129):      ":1: a value of 129 bytes",
	} {
		_, fault := decode("f", text)
		if fault == nil || !strings.Contains(fault.String(), "f"+want) {
			t.Errorf("%.40q: %v", text, fault)
		}
	}
}

// FuzzBounds: what checkBounds lets through keeps to the limits as the parser
// sees it, however it is written, and costs in proportion to its length.
func FuzzBounds(f *testing.F) {
	for _, text := range hostile {
		f.Add(text[:min(len(text), 2000)])
	}
	f.Add("[a.b]\nc.\"d\\\"[[\" = { e = [ 1, { f = '''\n[[[''' } ] } # [[[\n[[x]]\ny = \"\"\"a\"\"\"\"\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > topics.MaxConfig {
			return
		}
		if _, problem := checkBounds(text); problem != "" {
			return
		}
		var all map[string]any
		bytes, took := cost(func() {
			if _, err := toml.Decode(text, &all); err == nil {
				findLines(text)
			}
		})
		if bytes > uint64(len(text))*bytesPerByte+1<<22 || took > longestParse {
			t.Errorf("allocated %d, took %v", bytes, took)
		}
		if depth, count := extentOf(all); depth > maxDepth || count > maxEntries {
			t.Errorf("%d deep, %d entries", depth, count)
		}
	})
}

// extentOf returns how deep a value is, without itself, and what is in it.
func extentOf(v any) (depth, count int) {
	add := func(e any) {
		d, n := extentOf(e)
		depth, count = max(depth, d+1), count+n+1
	}
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			add(e)
		}
	case []any:
		for _, e := range v {
			add(e)
		}
	case []map[string]any:
		for _, e := range v {
			d, n := extentOf(e)
			depth, count = max(depth, d), count+n+1
		}
	}
	return depth, count
}
