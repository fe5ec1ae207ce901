package ctl

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp checks that the help of every verb has an example, fits 80 columns
// and ends with how the shared options are found; and that no example stands
// for a verb that there is not.
func TestHelp(t *testing.T) {
	a := newApp(Env{Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer), Getenv: func(string) string { return "" }})
	root := a.root()
	left := make(map[string]bool)
	for path := range examples {
		left[path] = true
	}
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		var b bytes.Buffer
		writeHelp(&b, c)
		for _, line := range strings.Split(b.String(), "\n") {
			if displayWidth(line) > helpWidth {
				t.Errorf("%s: wider than %d columns: %q", c.CommandPath(), helpWidth, line)
			}
		}
		if !strings.Contains(b.String(), "\nExamples:\n  dominionctl ") {
			t.Errorf("%s: no example", c.CommandPath())
		}
		if !strings.Contains(b.String(), shared) {
			t.Errorf("%s: does not name the shared options", c.CommandPath())
		}
		lines := strings.Split(about(c), "\n")
		for i, line := range lines[:len(lines)-1] {
			next, _, _ := strings.Cut(lines[i+1], " ")
			if line != "" && next != "" && line[0] != ' ' && displayWidth(line)+1+displayWidth(next) <= helpWidth {
				t.Errorf("%s: %q ends early, %q has room there", c.CommandPath(), line, next)
			}
		}
		delete(left, strings.TrimPrefix(c.CommandPath(), "dominionctl "))
		for _, sub := range c.Commands() {
			each(sub)
		}
	}
	each(root)
	for path := range left {
		t.Errorf("an example for %q, which is no verb", path)
	}
}

// about returns the text at the begin of the help of a command.
func about(c *cobra.Command) string {
	var b bytes.Buffer
	writeHelp(&b, c)
	text, _, _ := strings.Cut(b.String(), "\n\nUsage:")
	return text
}

// TestReflow checks that lines which were broken by hand are broken once, and that empty and
// indented lines stand as they are.
func TestReflow(t *testing.T) {
	got := strings.Join(reflow("one two\nthree four\n\n    make it\nfive", 13), "\n")
	if want := "one two three\nfour\n\n    make it\nfive"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
