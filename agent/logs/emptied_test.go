package logs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func fresh(lines []Line) string {
	var all []string
	for _, l := range lines {
		all = append(all, l.Line)
	}
	return strings.Join(all, "; ")
}

// A shell that writes to /dev/stderr by name empties its log; what was read of it
// before stays, and the log says what happened.
func TestAServiceThatEmptiesItsLog(t *testing.T) {
	dir := t.TempDir()
	writer(t, dir, "web", "stderr") // makes the file
	log, err := os.OpenFile(filepath.Join(dir, "web", "stderr.log"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// Each line of its input is one step, which is answered when it is done.
	shell := exec.Command("sh", "-c", `while read -r step; do eval "$step"; echo done; done`)
	shell.Stderr = log
	steps, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = shell.Wait() }()
	defer steps.Close()
	done := bufio.NewReader(answers)
	step := func(command string) {
		t.Helper()
		if _, err := io.WriteString(steps, command+"\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := done.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}

	d := New(dir)
	d.Follow("web", at0(0), at0(100))
	step("echo one >&2; echo two >>/dev/stderr")
	expect(t, fresh(d.Poll(at0(1))), "one; two")
	step("echo three > /dev/stderr")
	expect(t, fresh(d.Poll(at0(2))), emptiedLine+"; three")
	step("echo four >&2")
	expect(t, fresh(d.Poll(at0(3))), "four")
	last := d.Last("web", 9)
	expect(t, texts(last), "one two "+emptiedLine+" three four")
	for i, second := range []int{1, 1, 2, 2, 3} {
		if !last[i].At.Equal(at0(second)) {
			t.Errorf("%q is of %v, want %v", last[i].Line, last[i].At, at0(second))
		}
	}
	// What stands on the disk outlives the agent.
	expect(t, texts(New(dir).Last("web", 9)), "one two "+emptiedLine+" three four")
}

// Whatever the size is afterwards, a log that was emptied is recognized, and one
// that was not is not.
func TestWhatIsAnEmptiedLog(t *testing.T) {
	for _, c := range []struct{ name, before, after, want string }{
		{"nothing follows", "one\ntwo\n", "", "one two " + emptiedLine},
		{"less follows", "one\ntwo\n", "x\n", "one two " + emptiedLine + " x"},
		{"as much follows", "one\n", "two\n", "one " + emptiedLine + " two"},
		{"more follows", "one\n", "three\nfour\n", "one " + emptiedLine + " three four"},
		{"a line without an end", "one\ntw", "x\n", "one tw " + emptiedLine + " x"},
		{"it was empty", "", "x\n", "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			out := writer(t, dir, "web", "stdout")
			file := filepath.Join(dir, "web", "stdout.log")
			out("%s", c.before)
			d := New(dir)
			d.Poll(at0(1))
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
			out("%s", c.after)
			// A clock of the file system that is too coarse for a test.
			if err := os.Chtimes(file, at0(5), at0(5)); err != nil {
				t.Fatal(err)
			}
			d.Poll(at0(2))
			expect(t, texts(d.Last("web", 9)), c.want)
			out("end\n")
			d.Poll(at0(3))
			expect(t, texts(d.Last("web", 9)), c.want+" end")
		})
	}
}

// Appended lines, a new time of the file and the cut at the cap are not taken for
// a log that was emptied.
func TestALogThatIsNotEmptied(t *testing.T) {
	dir := t.TempDir()
	out := writer(t, dir, "web", "stdout")
	d := New(dir)
	d.Follow("web", at0(0), at0(10_000))
	line := strings.Repeat("x", 1000)
	for i := range 1200 { // more than two caps
		out("%d %s\n", i, line)
		if i == 3 {
			if err := os.Chtimes(filepath.Join(dir, "web", "stdout.log"), at0(5), at0(5)); err != nil {
				t.Fatal(err)
			}
		}
		if got := fresh(d.Poll(at0(i))); strings.Contains(got, emptiedLine) {
			t.Fatalf("line %d: %q", i, got)
		}
	}
}

// A service that empties its log all the time takes no more room than the cap.
func TestALogThatIsEmptiedOften(t *testing.T) {
	dir := t.TempDir()
	out := writer(t, dir, "web", "stdout")
	file := filepath.Join(dir, "web", "stdout.log")
	d := New(dir)
	line := strings.Repeat("x", 10<<10)
	for i := range 150 {
		out("%s%d\nline %d\n", line, i, i)
		d.Poll(at0(2 * i))
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
		d.Poll(at0(2*i + 1))
		info, err := os.Stat(file + ".1")
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > maxSize+maxLine {
			t.Fatalf("%d bytes are retained, want %d at most", info.Size(), maxSize+maxLine)
		}
		expect(t, texts(d.Last("web", 2)), fmt.Sprintf("line %d %s", i, emptiedLine))
	}
	if s := d.services["web"].streams[0]; len(s.older) > maxMarks || s.recent != nil {
		t.Errorf("%d marks and %d bytes are retained", len(s.older), len(s.recent))
	}
}
