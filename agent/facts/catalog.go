package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/topics"
)

// Manifest is what the catalog needs of a service.toml.
type Manifest struct {
	Version    string
	ReleaseURL string
	// Summary is that of the release.
	Summary string
	// Command needs no Makefile, if it is not empty.
	Command []string
}

// Catalog knows the services on this domain's disk. Make it with NewCatalog.
type Catalog struct {
	dir     string
	load    func(serviceDir string) (Manifest, error)
	files   *foreign.Files
	entries map[string]entry
}

// entry is what a scan found of one directory.
type entry struct {
	stamp   stamp
	row     topics.CatalogRow
	listed  bool
	problem string
	command []string
	// code is the version of the code, where service.toml gives none.
	code *code
}

// stamp reports whether a directory must be read again.
type stamp struct {
	makefile bool
	manifest bool
	modified time.Time
	// changed is the time of the last change, also by chmod and chown.
	changed unix.Timespec
	size    int64
}

// NewCatalog returns the catalog of servicesDir. load reads the service.toml
// of a directory that has one.
func NewCatalog(servicesDir string, files *foreign.Files, load func(serviceDir string) (Manifest, error)) *Catalog {
	return &Catalog{dir: servicesDir, files: files, load: load, entries: make(map[string]entry)}
}

// Scan returns the services on disk, sorted by name, and those that are new among
// the problems: each is returned once, until it changes. It reads no file that
// has not changed since the last scan.
func (c *Catalog) Scan() (rows []topics.CatalogRow, problems []string) {
	found := make(map[string]entry)
	entries, err := foreign.Do(c.files, c.dir, func() ([]fs.DirEntry, error) { return os.ReadDir(c.dir) })
	if err != nil {
		e := entry{problem: fmt.Sprintf("cannot read services_dir: %v", err)}
		if errors.Is(err, fs.ErrNotExist) {
			e.problem = fmt.Sprintf("there is no services_dir %s: make it and put services there, or set services_dir", c.dir)
		}
		found["."] = e
	}
	for _, d := range entries {
		name := d.Name()
		if strings.HasPrefix(name, ".") || !d.IsDir() && d.Type()&fs.ModeSymlink == 0 {
			continue
		}
		if e, is := c.scanDirectory(name); is {
			if e.code != nil {
				problems = append(problems, c.hashVersion(name, &e)...)
			}
			found[name] = e
		}
	}
	for _, d := range entries { // in the order of their names
		if e := found[d.Name()]; e.listed {
			rows = append(rows, e.row)
		}
	}
	if more := len(rows) - topics.MaxServices; more > 0 {
		rows = rows[:topics.MaxServices]
		found["."] = entry{problem: fmt.Sprintf("%d of the services in %s are left out: a domain has %d at most", more, c.dir, topics.MaxServices)}
	}
	for name, e := range found {
		if e.problem != "" && c.entries[name].problem != e.problem {
			problems = append(problems, e.problem)
		}
	}
	c.entries = found
	return rows, problems
}

// scanDirectory returns the entry of one directory, or link to one. It returns false
// if the name is neither.
func (c *Catalog) scanDirectory(name string) (entry, bool) {
	dir := filepath.Join(c.dir, name)
	now, err := foreign.Do(c.files, dir, func() (stamp, error) {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return stamp{}, errNoDirectory
		}
		return stampOf(dir), nil
	})
	if errors.Is(err, errNoDirectory) {
		return entry{}, false
	}
	if err != nil {
		return entry{problem: fmt.Sprintf("service %s is left out: %v", name, err)}, true
	}
	if old, ok := c.entries[name]; ok && old.stamp == now {
		return old, true
	}
	return c.readDirectory(name, dir, now), true
}

var errNoDirectory = errors.New("not a directory")

// readDirectory reads a directory that changed.
func (c *Catalog) readDirectory(name, dir string, now stamp) entry {
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
			if errors.Is(err, foreign.ErrBusy) {
				e.stamp = stamp{} // it is tried again
			}
			return e
		}
	}
	if !now.makefile && m.Command == nil {
		e.problem = fmt.Sprintf("service %s is left out: it has neither a Makefile nor a command in its service.toml", name)
		return e
	}
	e.row.Version, e.listed, e.command = m.Version, true, m.Command
	e.row.ReleaseURL, e.row.Summary = m.ReleaseURL, m.Summary
	if m.Version == "" {
		if e.code = c.entries[name].code; e.code == nil {
			e.code = new(code)
		}
	}
	return e
}

// hashVersion sets the version of a service to a hash of its code. If the disk does
// not answer in time the version stays as it was.
func (c *Catalog) hashVersion(name string, e *entry) (problems []string) {
	type found struct{ version, busy string }
	dir, now := filepath.Join(c.dir, name), time.Now()
	f, err := foreign.Do(c.files, dir, func() (found, error) {
		version, busy := e.code.scan(dir, e.command, now)
		return found{version, busy}, nil
	})
	if err != nil {
		return nil
	}
	if f.busy != "" {
		problems = []string{fmt.Sprintf("service %s: %s changes again and again and no longer counts for its version: let the service write into its data directory (SERVICE_DATA_DIR), or give its service.toml a version", name, filepath.Join(dir, f.busy))}
	}
	e.row.Version = f.version
	return problems
}

// ManifestFile is the optional description of a service in its directory.
const ManifestFile = "service.toml"

func stampOf(dir string) (s stamp) {
	for _, name := range makefiles {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			s.makefile = true
			break
		}
	}
	if info, err := os.Lstat(filepath.Join(dir, ManifestFile)); err == nil {
		s.manifest, s.modified, s.size = true, info.ModTime(), info.Size()
		if status, ok := info.Sys().(*syscall.Stat_t); ok {
			s.changed = unix.Timespec(status.Ctim)
		}
	}
	return s
}
