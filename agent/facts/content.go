package facts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/services"
)

// The version of a service whose service.toml gives none is a hash of its code:
// of its Makefile and service.toml, of the files that its command names, and of
// the files that codeEndings lists, also in directories below, except those that
// notCode lists. What a build or the service itself writes into its directory is
// none of these, or each start would be a new version.
var (
	makefiles   = []string{"GNUmakefile", "makefile", "Makefile"} // make's own order
	codeEndings = strings.Fields(".bash .c .cc .clj .cpp .cs .css .dart .erl .ex .exs .go .h .hpp .hs .htm .html .java .jl .js .jsx .kt .lua .mjs .mk .ml .nim .php .pl .pm .py .r .rb .rs .scala .sh .swift .ts .tsx .vue .zig")
	notCode     = strings.Fields("bin build cache data dist log logs node_modules obj out target tmp venv __pycache__")
)

// Bounds of what is read for the version of a service.
const (
	maxCodeDepth = 8
	maxCodeFiles = 1000
	maxCodeFile  = 1 << 20 // of a larger one its size and the time of its change count
	maxCodeRead  = 4 << 20 // and of what comes after so much
)

// A counted file that changes as often as this within changesWithin is written
// by the service: it no longer counts until it is left alone for leftAlone.
const (
	maxChanges    = 5
	changesWithin = 2 * time.Minute
	leftAlone     = 10 * time.Minute
)

// code is the cache of the code of a service, so that only what has changed is read.
type code struct {
	files   map[string]codeFile
	version string
}

type codeFile struct {
	stamp   fileStamp
	sum     [sha256.Size]byte
	changes []time.Time
	// busy is set where it changes by itself and does not count.
	busy bool
}

type fileStamp struct {
	inode             uint64
	size              int64
	modified, changed unix.Timespec
}

// scan returns the version of the code in dir, and which file is left out since,
// as it changes by itself. command is that of the service.
func (c *code) scan(dir string, command []string, now time.Time) (version, busy string) {
	files := make(map[string]codeFile)
	read := int64(0)
	var paths []string
	walkCode(dir, "", 0, command, func(path string) bool {
		paths = append(paths, path)
		return len(paths) < maxCodeFiles
	})
	slices.Sort(paths)
	sum := sha256.New()
	for _, path := range paths {
		stamp, regular := stampFile(filepath.Join(dir, path))
		if !regular {
			continue
		}
		file, cached := c.files[path]
		if !cached || file.stamp != stamp {
			before := file.sum
			file.stamp = stamp
			file.sum = sumOf(filepath.Join(dir, path), stamp, read)
			if stamp.size <= maxCodeFile {
				read += stamp.size
			}
			if cached && file.sum != before {
				file.changes = append(slices.Clone(file.changes[max(0, len(file.changes)-maxChanges+1):]), now)
			}
		}
		n := len(file.changes)
		if !file.busy && n == maxChanges && now.Sub(file.changes[0]) < changesWithin {
			file.busy, busy = true, path
		} else if file.busy && now.Sub(file.changes[n-1]) >= leftAlone {
			file.busy, file.changes = false, nil
		}
		files[path] = file
		if !file.busy {
			fmt.Fprintf(sum, "%s\x00%x\n", path, file.sum)
		}
	}
	c.files = files
	c.version = services.ContentVersion(hex.EncodeToString(sum.Sum(nil)[:6]))
	return c.version, busy
}

// walkCode calls each with the paths of the files that count, until it returns
// false. Links are not followed.
func walkCode(dir, below string, depth int, command []string, each func(path string) bool) bool {
	entries, err := os.ReadDir(filepath.Join(dir, below))
	if err != nil {
		return true
	}
	for _, e := range entries {
		name, path := e.Name(), filepath.Join(below, e.Name())
		if e.IsDir() {
			skip := strings.HasPrefix(name, ".") || slices.Contains(notCode, name) || depth >= maxCodeDepth
			if !skip && !walkCode(dir, path, depth+1, command, each) {
				return false
			}
			continue
		}
		counts := below == "" && (name == ManifestFile || slices.Contains(makefiles, name)) ||
			slices.Contains(codeEndings, strings.ToLower(filepath.Ext(name))) ||
			namedBy(command, path)
		if e.Type().IsRegular() && counts && !each(path) {
			return false
		}
	}
	return true
}

// namedBy reports whether a word of a command names a file of the directory
// that the command runs in.
func namedBy(command []string, path string) bool {
	return slices.ContainsFunc(command, func(w string) bool { return filepath.Clean(w) == path })
}

func stampFile(path string) (s fileStamp, regular bool) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return s, false
	}
	if status, ok := info.Sys().(*syscall.Stat_t); ok {
		s = fileStamp{status.Ino, status.Size, unix.Timespec(status.Mtim), unix.Timespec(status.Ctim)}
	}
	return s, true
}

// sumOf returns what stands for a file: a hash of its content, or where it is
// too large or cannot be read, of its size and the time of its change.
func sumOf(path string, s fileStamp, read int64) [sha256.Size]byte {
	large := func() [sha256.Size]byte {
		return sha256.Sum256(fmt.Appendf(nil, "%d %d.%09d", s.size, s.modified.Sec, s.modified.Nsec))
	}
	if s.size > maxCodeFile || read+s.size > maxCodeRead {
		return large()
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return large()
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !singleFile(info) { // a second name could be of a file of another user
		return large()
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, maxCodeFile)); err != nil {
		return large()
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

func singleFile(info fs.FileInfo) bool {
	status, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && ok && status.Nlink == 1
}
