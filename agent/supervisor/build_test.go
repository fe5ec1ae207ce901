package supervisor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A build that fails names what it wrote last, and leaves no process.
func TestBuild(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	makefile := "ok:\n\techo done >built\nbad:\n\t@echo compiling; echo no compiler here >&2; exit 3\n"
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	s := h.s
	if err := s.Build(context.Background(), Build{Service: "web", Dir: dir, Home: dir, Target: "ok"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "built")); err != nil {
		t.Error(err)
	}
	for target, want := range map[string]string{"bad": "no compiler here\ncompiling", "none": "No rule to make target"} {
		err := s.Build(context.Background(), Build{Service: "web", Dir: dir, Home: dir, Target: target})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", target, err)
		}
	}
}
