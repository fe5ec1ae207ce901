package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pseudoTerminal opens a terminal of so many columns; what is written to tty
// is read from screen.
func pseudoTerminal(t *testing.T, columns uint16) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// TestTerminal: colours and the terminal's width there, unless NO_COLOR or
// TERM=dumb says otherwise; neither in a pipe (the scripts).
func TestTerminal(t *testing.T) {
	hub := newHome(t, nil)
	defer closing(t, hub)
	for _, c := range []struct {
		name    string
		env     map[string]string
		colours bool
	}{
		{"plain", nil, true},
		{"NO_COLOR", map[string]string{"NO_COLOR": "1"}, false},
		{"empty NO_COLOR", map[string]string{"NO_COLOR": ""}, true},
		{"dumb", map[string]string{"TERM": "dumb"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			screen, tty := pseudoTerminal(t, 60)
			shown := make(chan []byte)
			go func() {
				b, err := io.ReadAll(screen)
				if err != nil && !errors.Is(err, syscall.EIO) { // how a terminal ends
					t.Error(err)
				}
				shown <- b
			}()
			var stderr bytes.Buffer
			code := Main(t.Context(), Env{
				Args: []string{"--hub", hub.address(), "status"}, Stdout: tty, Stderr: &stderr,
				Getenv: func(k string) string { return c.env[k] },
			})
			_ = tty.Close()
			got := string(<-shown)
			if code != ExitOK {
				t.Fatalf("exit code %d: %s", code, &stderr)
			}
			if has := strings.Contains(got, "\x1b[32monline\x1b[0m"); has != c.colours {
				t.Errorf("colours %t, want %t:\n%s", has, c.colours, got)
			}
			if !c.colours {
				for line := range strings.Lines(got) {
					if n := displayWidth(strings.TrimRight(line, "\r\n")); n > 60 {
						t.Errorf("%d columns wide: %s", n, line)
					}
				}
				if strings.Contains(got, "\x1b") {
					t.Errorf("an escape without colours: %q", got)
				}
			}
		})
	}
}
