package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// What the names in a bundle may have at most.
const (
	maxDepth    = 32
	maxName     = 255  // bytes of one component
	maxPath     = 1024 // bytes
	maxLinkText = 1024 // bytes
)

// EntryError is the reason why an entry may not be in a bundle.
type EntryError struct {
	// Name is the path of the entry within the bundle.
	Name string
	Err  error
}

func (e *EntryError) Error() string { return fmt.Sprintf("%.200q: %v", e.Name, e.Err) }

func (e *EntryError) Unwrap() error { return e.Err }

// entryKind is what an entry is.
type entryKind int

const (
	regular entryKind = iota
	directory
	symlink
	// implied is a directory that no entry named yet, above one that was.
	implied
)

// catalog checks the entries of one bundle, in their order.
type catalog struct {
	// max is how many there may be.
	max   int
	kinds map[string]entryKind
	// folded has the names that differ in case or in the form of Unicode alone.
	folded map[string]string
}

// add checks an entry against the rules and against those that came before it, and returns its
// path without a slash at the end. link is the text of a link.
func (c *catalog) add(name string, kind entryKind, link string) (string, error) {
	clean := strings.TrimSuffix(name, "/")
	if clean != "." {
		clean = strings.TrimPrefix(clean, "./")
	}
	if err := c.check(clean, kind, link); err != nil {
		return "", &EntryError{name, err}
	}
	if c.kinds == nil {
		c.kinds, c.folded = make(map[string]entryKind), make(map[string]string)
	}
	c.put(clean, kind)
	for up := path.Dir(clean); up != "." && !c.has(up); up = path.Dir(up) {
		c.put(up, implied)
	}
	return clean, nil
}

func (c *catalog) put(name string, kind entryKind) { c.kinds[name], c.folded[fold(name)] = kind, name }

func (c *catalog) has(name string) bool {
	_, has := c.kinds[name]
	return has
}

// check returns why an entry may not come next.
func (c *catalog) check(name string, kind entryKind, link string) error {
	if name == "." {
		if kind != directory {
			return errors.New("the top of a bundle must be a directory")
		}
		if c.has(name) {
			return errors.New("there are two of this name")
		}
		return nil
	}
	if err := checkPath(name); err != nil {
		return err
	}
	if len(c.kinds) >= c.max {
		return fmt.Errorf("more than %d entries", c.max)
	}
	if k, twice := c.kinds[name]; twice && (k != implied || kind != directory) {
		return errors.New("there are two of this name")
	}
	for at := name; at != "."; at = path.Dir(at) {
		if other, similar := c.folded[fold(at)]; similar && other != at {
			return fmt.Errorf("%.200q differs from %.200q only in case or in the form of its letters", at, other)
		}
		if k := c.kinds[at]; at != name && c.has(at) && k != directory && k != implied {
			return fmt.Errorf("%.200q above it is not a directory", at)
		}
	}
	if kind == symlink {
		return checkLink(name, link)
	}
	return nil
}

// checkPath returns why a path cannot be one of a bundle.
func checkPath(name string) error {
	if name == "" || strings.HasPrefix(name, "/") || name != path.Clean(name) || !fs.ValidPath(name) {
		return errors.New("its path must be relative, without .. and empty parts")
	}
	if len(name) > maxPath {
		return fmt.Errorf("its path is longer than %d bytes", maxPath)
	}
	if !utf8.ValidString(name) || !norm.NFC.IsNormalString(name) {
		return errors.New("its name must be UTF-8 in composed form (NFC)")
	}
	parts := strings.Split(name, "/")
	if len(parts) > maxDepth {
		return fmt.Errorf("more than %d directories deep", maxDepth)
	}
	for _, part := range parts {
		if len(part) > maxName {
			return fmt.Errorf("its name is longer than %d bytes", maxName)
		}
	}
	for _, r := range name {
		if !unicode.IsPrint(r) || r == '\\' {
			return fmt.Errorf("its name has the character %U, which cannot be shown or is a separator elsewhere", r)
		}
	}
	return nil
}

// checkLink returns why the text of a link may lead outside. Only leading ".." are allowed: the
// directories above a link are no links, so these lead where they seem to.
func checkLink(name, link string) error {
	if link == "" || len(link) > maxLinkText || !utf8.ValidString(link) || strings.ContainsRune(link, 0) {
		return errors.New("its link text is empty, too long or not UTF-8")
	}
	if strings.HasPrefix(link, "/") {
		return fmt.Errorf("it links to %.200q: a link must be relative", link)
	}
	depth := strings.Count(name, "/")
	named := false
	for part := range strings.SplitSeq(link, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; named || depth < 0 {
				return fmt.Errorf("it links to %.200q, which may be outside of the bundle", link)
			}
		default:
			named = true
		}
	}
	return nil
}

// fold returns what two names that a person or a file system may confuse have in common.
func fold(name string) string {
	return norm.NFKC.String(strings.Map(unicode.ToLower, strings.ToUpper(norm.NFKC.String(name))))
}

// kindOf returns what a header of a tar is, or why it may not be in a bundle.
func kindOf(h *tar.Header) (entryKind, error) {
	for key := range h.PAXRecords {
		switch key {
		case "path", "linkpath", "size", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment":
		default:
			return 0, fmt.Errorf("it has the extended attribute %.60q", key)
		}
	}
	if h.Mode&^0o777 != 0 {
		return 0, fmt.Errorf("its mode %#o has setuid, setgid or sticky bits", h.Mode)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return regular, nil
	case tar.TypeDir:
		return directory, nil
	case tar.TypeSymlink:
		return symlink, nil
	case tar.TypeLink:
		return 0, errors.New("hard links are not allowed in a bundle")
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return 0, errors.New("devices and FIFOs are not allowed in a bundle")
	}
	return 0, fmt.Errorf("entries of type %q are not allowed in a bundle", h.Typeflag)
}
