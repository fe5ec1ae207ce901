package build

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sourceFiles calls visit with each package of the programs, as a path in the repository,
// and the names of its files without tests.
func sourceFiles(t *testing.T, visit func(dir string, files []string)) {
	t.Helper()
	skip := map[string]bool{ // tests and measurements of packages
		"broker/bench": true, "broker/conformance": true, "broker/store/measure": true, "broker/store/storetest": true,
		"hub/devices/devicestest": true, "services/examples": true, "services/transcript": true, "topics/topicstest": true,
	}
	found := 0
	for _, root := range []string{"agent", "broker", "config", "ctl", "hub", "identity", "services", "topics"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			dir := filepath.ToSlash(strings.TrimPrefix(path, "../"))
			if d.Name() == "testdata" || skip[dir] {
				return filepath.SkipDir
			}
			all, err := filepath.Glob(filepath.Join(path, "*.go"))
			if err != nil {
				return err
			}
			var files []string
			for _, file := range all {
				if name := filepath.Base(file); !strings.HasSuffix(name, "_test.go") {
					files = append(files, name)
				}
			}
			if len(files) > 0 {
				found++
				visit(dir, files)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 40 {
		t.Errorf("only %d packages were found", found)
	}
}

// The index names every file that somebody has to find: those of more than 100 lines.
func TestDocsIndexNamesFiles(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, index, _ := strings.Cut(string(text), "\n## To add X, touch A, B, C\n")
	index, _, _ = strings.Cut(index, "\n## Three principles\n")
	sourceFiles(t, func(dir string, files []string) {
		for _, name := range files {
			source, err := os.ReadFile(filepath.Join("..", dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if lines := strings.Count(string(source), "\n"); lines > 100 && !strings.Contains(index, "`"+dir+"/"+name+"`") {
				t.Errorf("docs/architecture.md: the index has no row of `%s/%s`, which has %d lines: add what it decides", dir, name, lines)
			}
		}
	})
}

// The comment of a package of more than six files has a line for each of them, and for no
// other.
func TestPackageCommentsNameFiles(t *testing.T) {
	line := regexp.MustCompile(`(?m)^//\t([a-z0-9_]+\.go) +\S`)
	sourceFiles(t, func(dir string, files []string) {
		if len(files) <= 6 {
			return
		}
		listed := make(map[string]bool)
		for _, name := range files {
			source, err := os.ReadFile(filepath.Join("..", dir, name))
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(string(source), "\npackage ")
			for _, m := range line.FindAllStringSubmatch(head, -1) {
				listed[m[1]] = true
			}
		}
		for _, name := range files {
			if !listed[name] && name != "doc.go" {
				t.Errorf("the comment of package %s has no line about %s: add one below # Files", dir, name)
			}
			delete(listed, name)
		}
		for name := range listed {
			t.Errorf("the comment of package %s has a line about %s, which does not exist", dir, name)
		}
	})
}
