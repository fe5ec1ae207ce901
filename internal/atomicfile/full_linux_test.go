package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFullDisk fills a file system of 64 kB: the old state stays, whole, and
// writing goes on when there is room again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system; nothing was tested")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small file system; nothing was tested: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("cannot unmount %s: %v", dir, err)
		}
	}()
	path := filepath.Join(dir, "state.json")
	write(t, path, 1)
	write(t, path, 2)
	err := WriteJSON(path, state{N: 3, Fill: strings.Repeat("x", 80<<10)})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) {
		t.Errorf("a full disk: %v", err)
	}
	if v, found, logged := reader(t, path); v.N != 2 || !found || logged != "" {
		t.Errorf("after it: %+v, %v, %s", v, found, logged)
	}
	if got := names(t, dir); got != "state.json state.json.previous" {
		t.Errorf("left on disk: %s", got)
	}
	write(t, path, 4)
	if v, found, _ := reader(t, path); v.N != 4 || !found {
		t.Errorf("with room again: %+v, %v", v, found)
	}

	// Not a byte is free: no temporary file can be made.
	if err := os.WriteFile(filepath.Join(dir, "log"), make([]byte, 64<<10), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk did not become full: %v", err)
	}
	if err := WriteJSON(path, state{N: 5}); err == nil {
		t.Error("a byte was free")
	}
	if v, found, logged := reader(t, path); v.N != 4 || !found || logged != "" {
		t.Errorf("after it: %+v, %v, %s", v, found, logged)
	}
}
