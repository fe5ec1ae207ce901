package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Manifest is what the catalog needs of a service.toml.
type Manifest struct {
	Version string
	Command bool // it names a command: no Makefile is needed
}

// Catalog knows the services on this domain's disk. Make it with NewCatalog.
type Catalog struct {
	dir   string
	load  func(serviceDir string) (Manifest, error)
	known map[string]entry
}

// entry is what a scan found of one directory.
type entry struct {
	stamp   stamp
	row     topics.CatalogRow
	listed  bool
	problem string
}

// stamp tells whether a directory must be read again.
type stamp struct {
	makefile bool
	manifest bool
	modified time.Time
	size     int64
}

// NewCatalog returns the catalog of servicesDir. load reads the service.toml
// of a directory that has one.
func NewCatalog(servicesDir string, load func(serviceDir string) (Manifest, error)) *Catalog {
	return &Catalog{dir: servicesDir, load: load, known: make(map[string]entry)}
}

// Scan returns the services on disk, sorted by name, and what is new among
// the problems: each is told once, until it changes. It reads no file that
// has not changed since the last scan.
func (c *Catalog) Scan() (rows []topics.CatalogRow, problems []string) {
	seen := make(map[string]entry)
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		e := entry{problem: fmt.Sprintf("cannot read services_dir: %v", err)}
		if errors.Is(err, fs.ErrNotExist) {
			e.problem = fmt.Sprintf("there is no services_dir %s: make it and put services there, or set services_dir", c.dir)
		}
		seen["."] = e
	}
	for _, d := range entries {
		name := d.Name()
		if strings.HasPrefix(name, ".") || !isDir(filepath.Join(c.dir, name), d) {
			continue
		}
		seen[name] = c.look(name)
	}
	for _, d := range entries { // in the order of their names
		if e := seen[d.Name()]; e.listed {
			rows = append(rows, e.row)
		}
	}
	if more := len(rows) - topics.MaxServices; more > 0 {
		rows = rows[:topics.MaxServices]
		seen["."] = entry{problem: fmt.Sprintf("%d of the services in %s are left out: a domain has %d at most", more, c.dir, topics.MaxServices)}
	}
	for name, e := range seen {
		if e.problem != "" && c.known[name].problem != e.problem {
			problems = append(problems, e.problem)
		}
	}
	c.known = seen
	return rows, problems
}

func (c *Catalog) look(name string) entry {
	dir := filepath.Join(c.dir, name)
	now := stampOf(dir)
	if old, ok := c.known[name]; ok && old.stamp == now {
		return old
	}
	e := entry{stamp: now, row: topics.CatalogRow{Service: name}}
	if !now.makefile && !now.manifest {
		return e // no service, and none of our business
	}
	if !topics.ValidName(name) {
		e.problem = fmt.Sprintf("%s cannot be a service: use a-z, 0-9 and - in its directory's name, 63 characters at most", dir)
		return e
	}
	var m Manifest
	if now.manifest {
		var err error
		if m, err = c.load(dir); err != nil {
			e.problem = fmt.Sprintf("service %s is left out: %v", name, err)
			return e
		}
	}
	if !now.makefile && !m.Command {
		e.problem = fmt.Sprintf("service %s is left out: it has neither a Makefile nor a command in its service.toml", name)
		return e
	}
	e.row.Version, e.listed = m.Version, true
	return e
}

// ManifestFile is the optional description of a service in its directory.
const ManifestFile = "service.toml"

func stampOf(dir string) (s stamp) {
	for _, name := range []string{"GNUmakefile", "makefile", "Makefile"} { // make's own order
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			s.makefile = true
			break
		}
	}
	if info, err := os.Stat(filepath.Join(dir, ManifestFile)); err == nil {
		s.manifest, s.modified, s.size = true, info.ModTime(), info.Size()
	}
	return s
}

// isDir tells whether a directory entry is a directory or a link to one.
func isDir(path string, d fs.DirEntry) bool {
	if d.Type()&fs.ModeSymlink == 0 {
		return d.IsDir()
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
