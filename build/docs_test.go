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

// Every document is in the map, but for decisions, which have an index of their own, and
// pages that only say where their sections are now.
func TestDocsMapOfPages(t *testing.T) {
	index, err := os.ReadFile("../docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, pattern := range []string{"*.md", "*/*.md"} {
		pages, err := filepath.Glob(filepath.Join("../docs", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			name := filepath.ToSlash(strings.TrimPrefix(page, "../docs/"))
			if strings.HasPrefix(name, "decisions/") || slices.Contains([]string{"README.md", "config.md", "operating.md"}, name) {
				continue
			}
			found++
			if !strings.Contains(string(index), "("+name+")") {
				t.Errorf("docs/README.md does not name %s", name)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d pages were found", found)
	}
}

var statusOfDecision = regexp.MustCompile(`^# .+\n\nStatus: (accepted|superseded by .+) · \d{4}-\d{2}-\d{2}\b`)

// Every decision is in the index under its number, and has a status and a date.
func TestDocsIndexOfDecisions(t *testing.T) {
	const folder = "../docs/decisions"
	index, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(folder, "[0-9]*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	for _, page := range pages {
		name := filepath.Base(page)
		digits, _, _ := strings.Cut(name, "-")
		number := strings.TrimLeft(digits, "0")
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# "+number+". ") {
			t.Errorf("%s does not begin with \"# %s. \"", name, number)
		}
		if !statusOfDecision.Match(text) {
			t.Errorf("%s: the line below the title is not \"Status: accepted · YYYY-MM-DD\" (or \"superseded by [N](FILE) · …\")", name)
		}
		if !strings.Contains(string(index), "["+number+"]("+name+")") {
			t.Errorf("docs/decisions/README.md has no [%s](%s)", number, name)
		}
	}
}

// Every module of go.mod that we import ourselves has its reason.
func TestDocsDependencies(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	why, err := os.ReadFile("../docs/decisions/0010-dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	modules := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllSubmatch(mod, -1)
	if len(modules) == 0 {
		t.Fatal("go.mod requires nothing: the test looks at nothing")
	}
	for _, m := range modules {
		if !regexp.MustCompile("(?m)^\\|.*`" + regexp.QuoteMeta(string(m[1])) + "`.*\\|").Match(why) {
			t.Errorf("docs/decisions/0010-dependencies.md does not say why there is %s", m[1])
		}
	}
}

// Every package that the programs are made of has its row in the map.
func TestDocsMap(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\|(.*?)\|`).FindAllString(string(text), -1)
	found := 0
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		name := filepath.ToSlash(strings.TrimPrefix(path, "../"))
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path != ".." && strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case !d.IsDir() || name == "cmd" || name == "build" || name == "services/examples" || name == "broker/store/measure":
			if d.IsDir() { // programs, checks and measurements have their place in the text
				return filepath.SkipDir
			}
			return nil
		}
		sources, err := filepath.Glob(filepath.Join(path, "*.go"))
		if err != nil || len(sources) == 0 {
			return err
		}
		found++
		if !slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, "`"+name+"`") }) {
			t.Errorf("docs/architecture.md has no row of `%s`", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Errorf("only %d packages were found", found)
	}
}

// The reference names every verb of dominionctl and every metric.
func TestDocsReference(t *testing.T) {
	for _, c := range []struct {
		page, sources string
		names         *regexp.Regexp
		row           string // how the page writes a name, up to its end
	}{
		{"command-line.md", "../ctl/help.go", regexp.MustCompile(`(?m)^\t"([a-z]+)": +"`), "`"},
		{"metrics.md", "../hub/*.go", regexp.MustCompile(`"(dominion_[a-z0-9_]+)", (?:metrics\.|Type:|")`), "`"},
	} {
		page, err := os.ReadFile(filepath.Join("../docs/reference", c.page))
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(c.sources)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range c.names.FindAllStringSubmatch(string(source), -1) {
				found++
				if !regexp.MustCompile(c.row + m[1] + "[`{ ]").Match(page) {
					t.Errorf("docs/reference/%s does not name %s", c.page, m[1])
				}
			}
		}
		if found < 20 {
			t.Errorf("docs/reference/%s: only %d names were found", c.page, found)
		}
	}
}

// Every path in the indexes "To add X, touch A, B, C" and "Where X is decided" exists,
// each row names at least one, and what stands in parentheses behind a file occurs in it.
func TestDocsIndexOfChanges(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## To add X, touch A, B, C\n")
	section, _, _ = strings.Cut(section, "\n## Three principles\n")
	path := regexp.MustCompile("`((?:[a-z0-9_.-]+/)+[a-zA-Z0-9_.-]+|[a-z]+|Makefile|go\\.mod)`")
	inFile, identifier := regexp.MustCompile("`([a-z0-9_/]+\\.go)` \\(([^)]*)\\)"), regexp.MustCompile("`([A-Za-z]+)`")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.TrimSpace(cells[2]) == "" || strings.HasPrefix(cells[1], "---") || strings.Contains(line, "| touch |") || strings.Contains(line, "| where |") {
			continue
		}
		rows++
		named := 0
		for _, m := range path.FindAllStringSubmatch(line, -1) {
			_, err := os.Stat(filepath.Join("..", m[1]))
			if strings.ContainsAny(m[1], "/.") && err != nil {
				t.Errorf("docs/architecture.md, row %q: there is no %s", strings.TrimSpace(cells[1]), m[1])
			}
			if err == nil && strings.Contains(cells[2], m[0]) {
				named++
			}
		}
		for _, m := range inFile.FindAllStringSubmatch(line, -1) {
			source, err := os.ReadFile(filepath.Join("..", m[1]))
			if err != nil {
				continue // reported above
			}
			for _, name := range identifier.FindAllStringSubmatch(m[2], -1) {
				if !regexp.MustCompile(`\b` + name[1] + `\b`).Match(source) {
					t.Errorf("docs/architecture.md, row %q: there is no %s in %s", strings.TrimSpace(cells[1]), name[1], m[1])
				}
			}
		}
		if named == 0 {
			t.Errorf("docs/architecture.md, row %q names no path", strings.TrimSpace(cells[1]))
		}
	}
	if rows < 30 {
		t.Errorf("docs/architecture.md: only %d rows of the index were found", rows)
	}
}
