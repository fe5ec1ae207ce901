package foreign

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

const nobody = 65534

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("plain"), "text", 0o644)
	write(t, at("large"), strings.Repeat("x", 101), 0o644)
	if err := errors.Join(syscall.Mkfifo(at("fifo"), 0o644), os.Symlink(at("plain"), at("link")), os.Mkdir(at("dir"), 0o755)); err != nil {
		t.Fatal(err)
	}
	files := New()
	if b, err := files.Read(at("plain"), nil, 100); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := files.Read(at("missing"), nil, 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for name, want := range map[string]string{
		"fifo": "it is not a regular file", "dir": "it is not a regular file",
		"link": "it is a symbolic link", "large": "it is larger than 100 bytes",
	} {
		if b, err := files.Read(at(name), nil, 100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// A lease makes open(2) wait for 45 s.
func TestReadOfALeasedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leased")
	write(t, path, "text", 0o644)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("this file system takes no leases: %v", err)
	}
	if _, err := New().Read(path, nil, 100); !errors.Is(err, ErrBusy) {
		t.Errorf("it is %v", err)
	}
}

func TestReadAsAUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can read as another user")
	}
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("open"), "text", 0o644)
	write(t, at("secret"), "secret", 0o600)
	write(t, at("group"), "secret", 0o640) // of root's group, which root may be in
	write(t, at("planted"), "text", 0o644)
	if err := os.Chown(at("planted"), nobody-1, nobody-1); err != nil {
		t.Fatal(err)
	}
	files, user := New(), &syscall.Credential{Uid: nobody, Gid: nobody}
	if b, err := files.Read(at("open"), user, 100); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	for _, name := range []string{"secret", "group"} {
		if b, err := files.Read(at(name), user, 100); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if b, err := files.Read(at("planted"), user, 100); err == nil || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("planted: %q, %v", b, err)
	}
	for range 20 { // no thread is left with the user
		runtime.Gosched()
		if b, err := os.ReadFile(at("secret")); err != nil || string(b) != "secret" {
			t.Fatalf("root reads %q, %v", b, err)
		}
	}
}

// What hangs costs one goroutine, and the second try no time.
func TestHungPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, thawed := New(), make(chan struct{})
		var calls atomic.Int32
		look := func() (int, error) {
			calls.Add(1)
			<-thawed
			return 1, nil
		}
		began := time.Now()
		if _, err := Do(files, "/mnt/a", look); !errors.Is(err, ErrBusy) || time.Since(began) != deadline {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		began = time.Now()
		for range 100 {
			if _, err := Do(files, "/mnt/a", look); !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
		}
		if time.Since(began) != 0 || calls.Load() != 1 {
			t.Errorf("100 more took %v, %d calls", time.Since(began), calls.Load())
		}
		if n, err := Do(files, "/mnt/b", func() (int, error) { return 2, nil }); n != 2 || err != nil {
			t.Errorf("another place: %d, %v", n, err)
		}
		close(thawed)
		synctest.Wait()
		if n, err := Do(files, "/mnt/a", look); n != 1 || err != nil {
			t.Errorf("afterwards: %d, %v", n, err)
		}
	})
}

func TestHungPlacesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, thawed := New(), make(chan struct{})
		for i := range maxPlaces {
			_, _ = Do(files, string(rune('A'+i)), func() (int, error) { <-thawed; return 0, nil })
		}
		if _, err := Do(files, "one more", func() (int, error) { return 0, nil }); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		close(thawed)
		synctest.Wait()
		if len(files.places) != 0 {
			t.Errorf("left: %v", files.places)
		}
	})
}

// What is opened too late is closed.
func TestOpenedTooLate(t *testing.T) {
	files, answers := New(), make(chan struct{})
	var late closer
	_, err := Open(files, "disk", func() (*closer, error) { <-answers; return &late, nil })
	if !errors.Is(err, ErrBusy) {
		t.Fatalf("it was waited for: %v", err)
	}
	close(answers)
	var soon closer
	for err = ErrBusy; errors.Is(err, ErrBusy); { // until what hung is over
		_, err = Open(files, "disk", func() (*closer, error) { return &soon, nil })
	}
	if err != nil || !late.closed.Load() || soon.closed.Load() {
		t.Errorf("%v; late is closed: %v, soon: %v", err, late.closed.Load(), soon.closed.Load())
	}
}

type closer struct{ closed atomic.Bool }

func (c *closer) Close() error { c.closed.Store(true); return nil }
