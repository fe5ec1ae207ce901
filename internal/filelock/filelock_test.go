package filelock

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLockIsExclusive checks that each way to lock is refused while the lock is held,
// with an error that names the file, and works again when it is released.
func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	for _, first := range []func(string) (*os.File, error){Lock, LockExisting} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if _, err := LockExisting(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("LockExisting of a file that does not exist: %v", err)
			}
		}
		f, err := first(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, second := range []func(string) (*os.File, error){Lock, LockExisting} {
			if _, err := second(path); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
				t.Errorf("a second lock: %v", err)
			}
		}
		f.Close()
	}
}

// TestLockEndsWithTheProcess kills a process that holds the lock. The test is its
// own helper program.
func TestLockEndsWithTheProcess(t *testing.T) {
	const variable = "FILELOCK_TEST_PATH"
	if path := os.Getenv(variable); path != "" {
		f, err := Lock(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		os.Stdout.WriteString("locked\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent kills this process
		return
	}
	path := filepath.Join(t.TempDir(), "lock")
	holder := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithTheProcess$")
	holder.Env = append(os.Environ(), variable+"="+path)
	if _, err := holder.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = Lock(path)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	if line != "locked\n" || !errors.Is(err, ErrInUse) {
		t.Fatalf("the helper wrote %q, Lock beside it: %v", line, err)
	}
	f, err := Lock(path)
	if err != nil {
		t.Fatalf("the lock outlives its process: %v", err)
	}
	f.Close()
}
