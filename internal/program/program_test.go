package program

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program returns a program whose configuration is the name of its file, and its
// output. A file named "bad" is a fault.
func program(args ...string) (p Program[string], stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return Program[string]{
		Name: "thing", Role: "the thing", Variable: "THING_CONFIG_FILE", Version: "1.2.3",
		Load: func(file string, _ []string) (string, error) {
			if file == "bad" {
				return "", errors.New("bad:1: first fault")
			}
			return file, nil
		},
		Check: func(file string, _ []string) error {
			if file == "bad" {
				return errors.New("bad:1: first fault\nbad:2: second fault")
			}
			return nil
		},
		Run:  func(context.Context, Start[string]) error { return errors.New("it ran") },
		Args: append([]string{"thing"}, args...), Stdout: stdout, Stderr: stderr,
	}, stdout, stderr
}

func TestFlags(t *testing.T) {
	t.Setenv("THING_CONFIG_FILE", "")
	verb := func(_ context.Context, config string, fault error, args []string) int {
		if config != "x.toml" || fault != nil || strings.Join(args, " ") != "reset --yes" {
			t.Errorf("the verb got %q, %v, %q", config, fault, args)
		}
		return 7
	}
	warnings := func(config string) string { return "warning of " + config + "\n" }
	for _, c := range []struct {
		args           string
		change         func(*Program[string])
		code           int
		stdout, stderr string // the beginning of stderr
	}{
		{"-version", nil, 0, "1.2.3\n", ""},
		{"-help", nil, 0, "", "Usage of thing:"},
		{"-unknown", nil, 2, "", "flag provided but not defined: -unknown"},
		{"verb", nil, 2, "", `thing: cannot use "verb": there are flags only, see -help`},
		{"-check", nil, 0, "OK\n", ""},
		{"-check -config x.toml", func(p *Program[string]) { p.Warnings = warnings }, 0, "OK\n", "warning of x.toml\n"},
		{"-check -config bad", nil, 2, "", "bad:1: first fault\nbad:2: second fault\n"},
		{"-config bad", nil, 2, "", "bad:1: first fault\n"},
		{"-config x.toml reset --yes", func(p *Program[string]) { p.Verb = verb }, 7, "", ""},
		{"", nil, 1, "", "time="},
		{"", func(p *Program[string]) { p.Run = func(context.Context, Start[string]) error { return nil } }, 0, "", ""},
	} {
		p, stdout, stderr := program(strings.Fields(c.args)...)
		if c.change != nil {
			c.change(&p)
		}
		code := p.Main()
		if code != c.code || stdout.String() != c.stdout || !strings.HasPrefix(stderr.String(), c.stderr) || c.stderr == "" && stderr.Len() > 0 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", c.args, code, stdout, stderr)
		}
		if code == ExitFailed && !strings.Contains(stderr.String(), `msg="the thing ended" error="it ran"`) {
			t.Errorf("the error is not logged: %s", stderr)
		}
	}
}

// -config precedes the variable of the environment.
func TestConfigurationFile(t *testing.T) {
	t.Setenv("THING_CONFIG_FILE", "of the environment")
	for want, args := range map[string][]string{"of the environment": nil, "of the flag": {"-config", "of the flag"}} {
		p, _, _ := program(args...)
		p.Run = func(_ context.Context, s Start[string]) error {
			if s.Config != want {
				t.Errorf("%q: read from %q", args, s.Config)
			}
			return nil
		}
		p.Main()
	}
}

// SIGTERM and SIGINT end the program by its context with exit code 0; SIGHUP has it
// read its configuration again.
func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p, _, stderr := program("-config", "x.toml")
		p.Run = func(ctx context.Context, start Start[string]) error {
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				return err
			}
			<-start.Hangup
			if config, err := start.Load(); config != "x.toml" || err != nil {
				return fmt.Errorf("read %q again: %w", config, err)
			}
			if err := syscall.Kill(os.Getpid(), s); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		}
		if code := p.Main(); code != ExitOK {
			t.Errorf("%v: exit %d: %s", s, code, stderr)
		}
	}
}

// stopsForever is set in the environment of a process of this test that is asked to stop
// and never does, until its standard input ends.
const stopsForever = "PROGRAM_TEST_STOPS_FOREVER"

// A second signal ends a program that is stopping, whatever it waits for.
func TestSecondSignal(t *testing.T) {
	if os.Getenv(stopsForever) != "" {
		p, _, _ := program()
		p.Run = func(ctx context.Context, _ Start[string]) error {
			fmt.Println("running")
			<-ctx.Done()
			fmt.Println("stopping")
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		}
		os.Exit(p.Main())
	}
	for _, signals := range [][2]syscall.Signal{
		{syscall.SIGTERM, syscall.SIGTERM},
		{syscall.SIGINT, syscall.SIGINT},
		{syscall.SIGTERM, syscall.SIGINT},
	} {
		t.Run(fmt.Sprint(signals), func(t *testing.T) {
			c := exec.Command(os.Args[0], "-test.run=^TestSecondSignal$")
			c.Env = append(os.Environ(), stopsForever+"=1")
			stdin, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			// What ignores the second signal is ended all the same, and is a failure.
			defer time.AfterFunc(time.Minute, func() { stdin.Close() }).Stop()
			lines := bufio.NewScanner(stdout)
			for i, want := range []string{"running", "stopping"} {
				if !lines.Scan() || lines.Text() != want {
					t.Errorf("it prints %q, want %q", lines.Text(), want)
				}
				if err := c.Process.Signal(signals[i]); err != nil {
					t.Error(err)
				}
			}
			var ended *exec.ExitError
			if err := c.Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != signals[1] {
				t.Errorf("it ended by %v, want %v", err, signals[1])
			}
		})
	}
}
