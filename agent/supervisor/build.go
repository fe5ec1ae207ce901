package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/agent/logs"
)

// Build is the build of a deployed service: a make target in a copy of its bundle.
type Build struct {
	Service, Version string
	// Dir is the copy, Home the HOME of what runs.
	Dir, Home string
	Target    string
	User      *syscall.Credential
}

// buildLines is how many of the last lines of a build that failed are shown.
const buildLines = 5

// Build builds a deployed service, and ends what that leaves behind. Its error has the last lines
// of its output. It may be called beside the loop.
func (s *Supervisor) Build(ctx context.Context, b Build) error {
	path, err := findProgram(b.Dir, "make")
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot build: %w", err)
	}
	defer read.Close()
	last := make(chan []byte, 1)
	go func() { last <- tail(read, maxTail) }()
	err = s.o.Runner.Check(ctx, Command{
		Path: path, Args: append(makeArgs(b.Dir), b.Target), Dir: b.Dir, Credential: b.User, Stdout: write, Stderr: write,
		Env: []string{"PATH=" + searchPath(), "HOME=" + b.Home, "SERVICE_NAME=" + b.Service, "SERVICE_VERSION=" + b.Version},
	})
	write.Close()
	_ = read.SetReadDeadline(time.Now().Add(time.Second)) // another process may still have the other end open
	text := <-last
	if err == nil {
		return nil
	}
	return errors.New(explainBuild(err.Error(), string(text)))
}

// explainBuild returns why a build failed, by its end and its output: what it wrote last in the first
// line, and the last lines.
func explainBuild(end, output string) string {
	last, lines := "", []string{}
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(logs.Clean([]byte(line))); line == "" {
			continue
		}
		lines = append(lines, line)
		if found := makeError.FindStringSubmatch(line); found == nil {
			last = line
		} else if found[3] != "" {
			last = "make: " + found[3]
		}
	}
	if r := []rune(last); len(r) > maxReason {
		last = string(r[:maxReason]) + "…"
	}
	if last != "" {
		end += ": " + last
	}
	return strings.Join(append([]string{end}, lines[max(0, len(lines)-buildLines):]...), "\n")
}

// tail reads to the end, and returns the last bytes.
func tail(r io.Reader, most int) []byte {
	var text []byte
	buffer := make([]byte, 4<<10)
	for {
		n, err := r.Read(buffer)
		text = append(text, buffer[:n]...)
		if len(text) > most {
			text = append(text[:0], text[len(text)-most:]...)
		}
		if err != nil {
			return text
		}
	}
}
