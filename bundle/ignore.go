package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
)

// IgnoreFile is the file whose patterns, in the syntax of .dockerignore, leave files out of
// a bundle.
const IgnoreFile = ".dominionignore"

// alwaysIgnored are left out without a pattern; a pattern "!.git" brings them back.
var alwaysIgnored = []string{".git", ".hg", ".svn"}

// maxIgnoreFile bounds the size of an ignore file, in bytes.
const maxIgnoreFile = 64 << 10

// ignored returns the patterns of a directory.
func ignored(dir string) (*patternmatcher.PatternMatcher, error) {
	patterns := alwaysIgnored
	file := filepath.Join(dir, IgnoreFile)
	info, err := os.Lstat(file)
	if err == nil {
		if !info.Mode().IsRegular() || info.Size() > maxIgnoreFile {
			return nil, fmt.Errorf("cannot use %s: it must be a regular file of %d bytes at most", file, maxIgnoreFile)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", file, err)
		}
		lines := bufio.NewScanner(strings.NewReader(string(text)))
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			not := strings.HasPrefix(line, "!")
			line = strings.TrimPrefix(filepath.Clean(filepath.FromSlash(strings.TrimPrefix(line, "!"))), "/")
			if not {
				line = "!" + line
			}
			patterns = append(patterns, line)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", file, err)
	}
	return m, nil
}
