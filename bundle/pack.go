package bundle

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/moby/patternmatcher"
)

// Content is what packing tells of a bundle.
type Content struct {
	// Digest is that of the uncompressed tar.
	Digest Digest
	// Size is that of the uncompressed tar, in bytes.
	Size int64
	// Files is how many regular files there are.
	Files int
}

// Pack writes a directory to w as a tar without compression. The same files give the same
// bytes: entries are sorted, and times, owners and all of the mode but the right to execute
// are left out. What the IgnoreFile names is not in it.
//
// It fails for what may not be in a bundle (*EntryError), and for a file that changes
// meanwhile.
func Pack(dir string, w io.Writer) (Content, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Content{}, fmt.Errorf("cannot pack %s: %w", dir, err)
	}
	defer root.Close()
	out, err := ignored(dir)
	if err != nil {
		return Content{}, err
	}
	sum := sha256.New()
	count := new(counter)
	p := packer{root: root, ignored: out, tar: tar.NewWriter(io.MultiWriter(w, sum, count)), entries: catalog{max: DefaultLimits.Entries}}
	if err := p.directory("."); err != nil {
		return Content{}, fmt.Errorf("cannot pack %s: %w", dir, err)
	}
	if err := p.tar.Close(); err != nil {
		return Content{}, fmt.Errorf("cannot pack %s: %w", dir, err)
	}
	return Content{Digest: Digest(digestPrefix + hex.EncodeToString(sum.Sum(nil))), Size: int64(*count), Files: p.files}, nil
}

// counter counts the bytes that are written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

type packer struct {
	root    *os.Root
	ignored *patternmatcher.PatternMatcher
	tar     *tar.Writer
	entries catalog
	files   int
}

// directory packs what is in a directory. One of which everything is ignored is left out.
func (p *packer) directory(name string) error {
	entries, err := fs.ReadDir(p.root.FS(), name) // sorted
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := p.entry(path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// entry packs one file, directory or link, unless it is ignored.
func (p *packer) entry(name string) error {
	out, err := p.ignored.MatchesOrParentMatches(filepath.FromSlash(name))
	if err != nil {
		return &EntryError{name, err}
	}
	info, err := p.root.Lstat(name)
	if err != nil {
		return err
	}
	if out {
		if info.IsDir() && p.ignored.Exclusions() {
			return p.directory(name) // a pattern with "!" may bring some of it back
		}
		return nil
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		if err := p.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}, directory); err != nil {
			return err
		}
		return p.directory(name)
	case mode.IsRegular():
		return p.file(name)
	case mode&fs.ModeSymlink != 0:
		link, err := p.root.Readlink(name)
		if err != nil {
			return err
		}
		return p.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: filepath.ToSlash(link), Mode: 0o777}, symlink)
	}
	return &EntryError{name, fmt.Errorf("it is neither a file, a directory nor a link: remove it, or name it in %s", IgnoreFile)}
}

// header writes the header of an entry.
func (p *packer) header(h *tar.Header, kind entryKind) error {
	if _, err := p.entries.add(h.Name, kind, h.Linkname); err != nil {
		return err
	}
	h.ModTime = time.Unix(0, 0)
	return p.tar.WriteHeader(h)
}

// file packs a regular file.
func (p *packer) file(name string) error {
	f, err := p.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &EntryError{name, errors.New("it changed while it was packed: try again")}
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := p.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size()}, regular); err != nil {
		return err
	}
	n, err := io.Copy(p.tar, io.LimitReader(f, info.Size()))
	if err == nil && n == info.Size() {
		var more [1]byte
		if k, _ := f.Read(more[:]); k == 0 {
			p.files++
			return nil
		}
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return &EntryError{name, errors.New("it changed while it was packed: try again")}
}
