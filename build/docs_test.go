package build

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	link        = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	makeCommand = regexp.MustCompile("(?m)^ {4}(?:sudo )?make ([a-z0-9][a-z0-9-]*)|`(?:sudo )?make ([a-z0-9][a-z0-9-]*)")
	makeTarget  = regexp.MustCompile(`(?m)^([a-z0-9-]+):`)
	heading     = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// Every link between our documents leads somewhere, and every make target
// that they name is there.
func TestDocs(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range makeTarget.FindAllStringSubmatch(string(makefile), -1) {
		targets = append(targets, m[1])
	}
	found := 0
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range makeCommand.FindAllStringSubmatch(string(text), -1) {
			if name := m[1] + m[2]; !slices.Contains(targets, name) {
				t.Errorf("%s: there is no make %s", path, name)
			}
			found++
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if problem := checkLink(path, m[1]); problem != "" {
				t.Errorf("%s: %s: %s", path, m[1], problem)
			}
			found++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("no link and no command was found: the test looks at nothing")
	}
}

func checkLink(from, to string) (problem string) {
	if strings.Contains(to, "://") {
		return ""
	}
	file, anchor, _ := strings.Cut(to, "#")
	path := from
	if file != "" {
		path = filepath.Join(filepath.Dir(from), file)
	}
	text, err := os.ReadFile(path)
	if file != "" && err != nil {
		if _, err := os.Stat(path); err != nil {
			return "leads nowhere"
		}
	}
	if anchor == "" {
		return ""
	}
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		if anchorOf(m[1]) == anchor {
			return ""
		}
	}
	return "there is no such heading"
}

// anchorOf is the anchor that GitHub gives a heading.
func anchorOf(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.ToLower(heading))
}
