package supervisor

import (
	"context"
	"io"
	"os"
	"os/exec"
	"time"
)

// Output runs a command to its end as the agent's own user, as a health check is
// run, and returns the first most bytes of what it writes. Nothing that it
// started is left.
func (s *Supervisor) Output(ctx context.Context, command []string, most int64) (string, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return "", err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer read.Close()
	text := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(read, most))
		text <- string(b)
		_, _ = io.Copy(io.Discard, read)
	}()
	err = s.o.Runner.Check(ctx, Command{Path: path, Args: command, Env: os.Environ(), Stdout: write})
	write.Close()
	_ = read.SetReadDeadline(time.Now().Add(time.Second)) // another process may still have the other end open
	return <-text, err
}
