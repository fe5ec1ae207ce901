package facts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/services"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// The version of a service without one follows its code, and nothing that a
// build or the service itself writes beside it.
func TestContentVersion(t *testing.T) {
	dir := t.TempDir()
	web := filepath.Join(dir, "web")
	put(t, web+"/Makefile", "run:\n\tpython3 main.py\n")
	put(t, web+"/main.py", "print(1)")
	put(t, web+"/lib/a.py", "a = 1")
	put(t, web+"/server", "\x7fELF 1")
	c := NewCatalog(dir, foreign.New(), func(string) (Manifest, error) { return Manifest{Command: []string{"./server"}}, nil })
	version := func() string {
		t.Helper()
		rows, problems := c.Scan()
		if len(rows) != 1 || len(problems) > 0 {
			t.Fatalf("%v, %v", rows, problems)
		}
		return rows[0].Version
	}
	first := version()
	if !services.IsContentVersion(first) || !services.ValidVersion(first) {
		t.Fatalf("version %q", first)
	}
	for _, path := range []string{
		"state.json", "data/main.py", "build/x.go", "__pycache__/main.py", "node_modules/x/index.js", ".git/x.py",
		"web.log", "database.sqlite", "lib/server", "out.o", "notes.txt",
	} {
		put(t, filepath.Join(web, path), "written by the service")
		if got := version(); got != first {
			t.Errorf("%s changes the version", path)
		}
	}
	before := first
	put(t, web+"/service.toml", "") // from now on its command counts
	for n, path := range []string{"Makefile", "service.toml", "main.py", "lib/a.py", "lib/new.py", "server"} {
		put(t, filepath.Join(web, path), fmt.Sprintf("changed %d", n))
		got := version()
		if got == before {
			t.Errorf("%s does not change the version", path)
		}
		before = got
	}
	if err := os.Chtimes(web+"/main.py", time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if got := version(); got != before {
		t.Error("another time of the same content is another version")
	}
	put(t, web+"/Makefile", "run:\n")
	if err := os.Remove(web + "/lib/new.py"); err != nil {
		t.Fatal(err)
	}
	if version() == before {
		t.Error("a file that is gone does not change the version")
	}
}

// What has not changed is not read again.
func TestContentIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/main.py", "print(1)")
	var c code
	first, _ := c.scan(dir, nil, time.Now())
	file := c.files["main.py"]
	file.sum[0]++ // what a second reading would put right
	c.files["main.py"] = file
	if again, _ := c.scan(dir, nil, time.Now()); again == first {
		t.Error("a file that did not change was read again")
	}
}

// The content of a large file, and of what has a second name, is not read.
func TestContentThatIsNotRead(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/large.py", strings.Repeat("x", maxCodeFile+1))
	put(t, dir+"/secret", "secret")
	if err := errors.Join(os.Link(dir+"/secret", dir+"/link.py"), os.Symlink(dir+"/secret", dir+"/symlink.py")); err != nil {
		t.Fatal(err)
	}
	var c code
	c.scan(dir, nil, time.Now())
	for _, path := range []string{"large.py", "link.py"} {
		stamp, _ := stampFile(filepath.Join(dir, path))
		if c.files[path].sum != sumOf(filepath.Join(dir, "nothing"), stamp, 0) {
			t.Errorf("%s was read", path)
		}
	}
	if _, counts := c.files["symlink.py"]; counts {
		t.Error("a link counts")
	}
}

// A service that writes one of its own counted files is not restarted for ever.
func TestContentThatChangesByItself(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/Makefile", "run:\n")
	put(t, dir+"/state.py", "0")
	var c code
	now := time.Unix(1e9, 0)
	c.scan(dir, nil, now)
	left := ""
	versions := make(map[string]bool)
	for n := range 20 {
		put(t, dir+"/state.py", strings.Repeat("x", n+2))
		now = now.Add(10 * time.Second)
		version, busy := c.scan(dir, nil, now)
		versions[version] = true
		left += busy
	}
	if left != "state.py" || len(versions) != maxChanges {
		t.Errorf("left out %q after %d versions", left, len(versions))
	}
	before := c.version
	if version, _ := c.scan(dir, nil, now.Add(leftAlone)); version == before {
		t.Error("a file that is left alone does not count again")
	}
}
