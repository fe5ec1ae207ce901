package logs

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Logs are polled while a service may write or a client follows, and then no more
// often than is needed.
func TestPoller(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web", "stdout.log")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	now := time.Now()
	p := NewPoller(New(dir), time.Second, now)
	if next := p.Next(now, false); !next.IsZero() {
		t.Errorf("nobody writes or follows, and a poll is due in %v", next.Sub(now))
	}
	p.Expire(now, true)
	if next := p.Next(now, true); !next.Equal(now.Add(time.Second)) {
		t.Errorf("while a service writes: in %v, want the least time", next.Sub(now))
	}
	p.Follow("web", now, now.Add(time.Minute))
	if next := p.Next(now, false); !next.Equal(now.Add(followInterval)) {
		t.Errorf("while a client follows: in %v", next.Sub(now))
	}
	write("hello\n")
	if lines := p.Expire(now.Add(followInterval-1), false); len(lines) != 0 {
		t.Errorf("polled before it was due: %v", lines)
	}
	now = now.Add(followInterval)
	if lines := p.Expire(now, false); len(lines) != 1 || lines[0].Line != "hello" || lines[0].Service != "web" {
		t.Errorf("lines %v", lines)
	}
	if next := p.Next(now, false); !next.Equal(now.Add(followInterval)) {
		t.Errorf("after a poll: in %v", next.Sub(now))
	}
	now = now.Add(2 * time.Minute)
	if next := p.Next(now, false); !next.IsZero() {
		t.Error("the client follows no longer, and a poll is due")
	}
	for range 3 * maxSize / 1024 {
		write(string(make([]byte, 1023)) + "\n")
	}
	p.Expire(now, true)
	if next := p.Next(now, true); !next.Equal(now.Add(floodInterval)) {
		t.Errorf("while a service fills its log: in %v", next.Sub(now))
	}
}
