package atomicfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

type state struct {
	N    int    `json:"n"`
	Fill string `json:"fill,omitempty"`
}

// reader reads a file's state and what was logged of it.
func reader(t *testing.T, path string) (v state, found bool, logged string) {
	t.Helper()
	var b bytes.Buffer
	v, found, err := ReadJSON[state](path, slog.New(slog.NewTextHandler(&b, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return v, found, b.String()
}

func write(t *testing.T, path string, n int) {
	t.Helper()
	if err := WriteJSON(path, state{N: n}); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if v, found, logged := reader(t, path); found || v.N != 0 || logged != "" {
		t.Errorf("nothing there: %+v, %v, %s", v, found, logged)
	}
	for n := 1; n <= 3; n++ {
		write(t, path, n)
		if v, found, logged := reader(t, path); !found || v.N != n || logged != "" {
			t.Errorf("%d: %+v, %v, %s", n, v, found, logged)
		}
	}
	if v, _, _ := reader(t, path+Previous); v.N != 2 {
		t.Errorf("the previous copy holds %d", v.N)
	}
	if got := names(t, filepath.Dir(path)); got != "state.json state.json.previous" {
		t.Errorf("left on disk: %s", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: others can read it", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "{\n  \"n\": 3\n}\n" {
		t.Errorf("%q, %v: no text for people", text, err)
	}
}

func TestModeIsWhatWasAskedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page")
	if err := Write(path, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestPowerCuts puts on disk what a power cut after each step of Write leaves,
// and asks for the old or the new state, whole; then everything must go on.
func TestPowerCuts(t *testing.T) {
	const older, old, next = "{\"n\": 1}", "{\"n\": 2}", "{\"n\": 3}"
	for _, tt := range []struct {
		step  string
		files map[string]string // ending → content
		want  int
	}{
		{"before", map[string]string{"": old, Previous: older}, 2},
		{"temporary file made", map[string]string{"": old, Previous: older, temporary: ""}, 2},
		{"temporary file half written", map[string]string{"": old, Previous: older, temporary: next[:3]}, 2},
		{"temporary file written", map[string]string{"": old, Previous: older, temporary: next}, 2},
		{"previous copy removed", map[string]string{"": old, temporary: next}, 2},
		{"previous copy made", map[string]string{"": old, Previous: old, temporary: next}, 2},
		{"renamed", map[string]string{"": next, Previous: old}, 3},
		{"the first write of all", map[string]string{temporary: next[:3]}, 0},
		// What a disk makes of a file that it had promised to keep.
		{"the file is empty", map[string]string{"": "", Previous: older}, 1},
		{"the file is cut", map[string]string{"": next[:3], Previous: old}, 2},
		{"the file holds zeros", map[string]string{"": "\x00\x00\x00\x00", Previous: old}, 2},
		{"zeros after it", map[string]string{"": next + "\x00\x00", Previous: old}, 2},
		{"the wrong type", map[string]string{"": `{"n":"3"}`, Previous: old}, 2},
		{"both are broken", map[string]string{"": next[:3], Previous: ""}, 0},
		{"no previous copy", map[string]string{"": ""}, 0},
		{"broken before", map[string]string{"": "", Previous: old, Broken: "x"}, 2},
		{"cut while it was restored", map[string]string{"": "", Previous: old, Broken: "", temporary: old}, 2},
	} {
		t.Run(tt.step, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			for ending, content := range tt.files {
				put(t, path+ending, content)
			}
			before, there := tt.files[""]
			v, found, logged := reader(t, path)
			if v.N != tt.want || found != (tt.want > 0) || v.Fill != "" {
				t.Errorf("%+v, %v, want %d", v, found, tt.want)
			}
			// A broken one is said, named and kept for who wants to look.
			if broken := there && before != old && before != next; broken != strings.Contains(logged, "level=WARN") {
				t.Errorf("broken %v, logged %q", broken, logged)
			} else if kept, _ := os.ReadFile(path + Broken); broken && string(kept) != before {
				t.Errorf("set aside %q, was %q", kept, before)
			}
			// The second start reads the same and says nothing more.
			if again, found, logged := reader(t, path); again != v || found != (tt.want > 0) || logged != "" {
				t.Errorf("at the second start: %+v, %v, %s", again, found, logged)
			}
			write(t, path, 9)
			if v, found, _ := reader(t, path); v.N != 9 || !found {
				t.Errorf("after the next write: %+v, %v", v, found)
			}
			if strings.Contains(names(t, filepath.Dir(path)), temporary) {
				t.Errorf("left on disk: %s", names(t, filepath.Dir(path)))
			}
		})
	}
}

// TestKilledWriter kills a process that writes all the time, as often as not
// in the middle: what it had been told is written is there.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_WRITE"); path != "" {
		v, _, err := ReadJSON[state](path, slog.Default())
		for err == nil {
			v.N++
			v.Fill = strings.Repeat("x", v.N%5000)
			if err = WriteJSON(path, v); err == nil {
				fmt.Println(v.N)
			}
		}
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.json")
	last := 0
	for range 20 {
		writer := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
		writer.Env = append(os.Environ(), "ATOMICFILE_WRITE="+path)
		out, err := writer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		for range 1 + rand.IntN(20) {
			said.Scan()
			last, _ = strconv.Atoi(said.Text())
		}
		if err := writer.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for said.Scan() { // what it said before it died
			if n, err := strconv.Atoi(said.Text()); err == nil {
				last = n
			}
		}
		_ = writer.Wait() // killed
		v, found, logged := reader(t, path)
		if !found || v.N < last || v.N > last+1 || len(v.Fill) != v.N%5000 || logged != "" {
			t.Fatalf("said %d, read %d (found %v, fill %d): %s", last, v.N, found, len(v.Fill), logged)
		}
	}
	if n := len(strings.Fields(names(t, filepath.Dir(path)))); n > 3 {
		t.Errorf("litter: %s", names(t, filepath.Dir(path)))
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no", "state.json")
	if err := WriteJSON(missing, state{}); err == nil || !strings.HasPrefix(err.Error(), "cannot write "+missing) {
		t.Errorf("%v", err)
	}
	if err := WriteJSON(missing, func() {}); err == nil || !strings.HasPrefix(err.Error(), "cannot write "+missing) {
		t.Errorf("%v", err)
	}
	// A disk that does not answer is not a file that is broken: here a directory.
	dir := t.TempDir()
	if _, found, err := ReadJSON[state](dir, slog.New(slog.DiscardHandler)); err == nil || found || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("it was set aside: %v", err)
	}
}

func TestWriteDoesNotFollowWhatLiesThere(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "state.json"), filepath.Join(dir, "other")
	put(t, other, "mine")
	if err := os.Symlink(other, path+temporary); err != nil {
		t.Fatal(err)
	}
	write(t, path, 1)
	if b, err := os.ReadFile(other); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestCreateReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := Create(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) || !strings.HasPrefix(err.Error(), "cannot create "+path) {
		t.Errorf("over a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "first" {
		t.Errorf("%q, %v", b, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// A link to nowhere is something, too.
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	if err := Create(link, []byte("x"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a link: %v", err)
	}
	if got := names(t, dir); got != "key link" {
		t.Errorf("left on disk: %s", got)
	}
	// What a power cut left of a first try does not stop the second.
	put(t, filepath.Join(dir, "next"+temporary), "ha")
	if err := Create(filepath.Join(dir, "next"), []byte("whole"), 0o600); err != nil {
		t.Errorf("after a power cut: %v", err)
	}
}
