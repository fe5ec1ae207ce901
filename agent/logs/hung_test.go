package logs

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// While the disk of the logs does not answer nobody waits for it; what was
// written meanwhile is there afterwards.
func TestDiskThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web", "stdout.log")
	write := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n")
	synctest.Test(t, func(t *testing.T) {
		d := New(dir)
		d.Follow("web", time.Now(), time.Now().Add(time.Hour))
		answers, began := make(chan struct{}), time.Now()
		if d.withinDeadline(func() { <-answers }) || time.Since(began) != deadline {
			t.Errorf("it was waited for %v", time.Since(began))
		}
		write("meanwhile\n")
		began = time.Now()
		if lines := d.Poll(began); lines != nil || d.Last("web", 5) != nil || d.Following(began) || d.Flooded(began) {
			t.Errorf("there are lines: %v", lines)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("while it hangs it is waited for %v", took)
		}
		close(answers)
		synctest.Wait()
		if lines := d.Poll(time.Now()); len(lines) != 1 || lines[0].Line != "meanwhile" {
			t.Errorf("afterwards: %v", lines)
		}
		if last := d.Last("web", 5); len(last) != 2 || !d.Following(time.Now()) {
			t.Errorf("the last lines: %v", last)
		}
	})
}
