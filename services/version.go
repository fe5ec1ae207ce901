package services

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/jmbarzee/dominion/topics"
)

// Range is a range of versions such as ">=1.2 <2". The zero Range holds every
// version, also an unknown one.
type Range struct {
	text string
	in   semver.Range
}

// comparator is one comparison of a range; missing parts of its version are zero.
var comparator = regexp.MustCompile(`^(>=|<=|>|<|==|=|!=|!)?v?(\d+)(\.\d+)?(\.\d+)?(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// ParseRange reads comparisons that all must hold, separated by spaces, and
// alternatives of these separated by "||". Missing parts of a version are
// zero: ">=1.2" is ">=1.2.0".
func ParseRange(s string) (Range, error) {
	if strings.TrimSpace(s) == "" {
		return Range{}, nil
	}
	if len(s) > maxRange { // whether it is possible costs the square of its length
		return Range{}, fmt.Errorf("cannot read version range %.40q…: %d bytes are more than %d", s, len(s), maxRange)
	}
	var full []string
	// ">= 1.2" is written with a space by many people
	words := strings.Fields(strings.ReplaceAll(operatorSpace.ReplaceAllString(s, "$1"), "||", " || "))
	for i, w := range words {
		if w == "||" {
			// semver takes "1 || || 2", and panics when it is asked of a version.
			if i == 0 || i == len(words)-1 || words[i-1] == "||" {
				return Range{}, fmt.Errorf("cannot read version range %q: there is nothing beside a ||", s)
			}
			full = append(full, w)
			continue
		}
		m := comparator.FindStringSubmatch(w)
		if m == nil {
			return Range{}, fmt.Errorf("cannot read version range %q at %q: write comparisons such as \">=1.2 <2\"", s, w)
		}
		for i := 3; i <= 4; i++ {
			if m[i] == "" {
				m[i] = ".0"
			}
		}
		full = append(full, strings.Join(m[1:6], ""))
	}
	in, err := semver.ParseRange(strings.Join(full, " "))
	if err != nil {
		return Range{}, fmt.Errorf("cannot read version range %q: %w", s, err)
	}
	r := Range{text: strings.Join(words, " "), in: in}
	if !r.possible() {
		return Range{}, fmt.Errorf("cannot use version range %q: %w", s, ErrNoVersion)
	}
	return r, nil
}

// ErrNoVersion is the cause when the comparisons of a range exclude each other.
var ErrNoVersion = errors.New("no version is in it")

// possible reports whether there is a version in the range. What is in a range is
// in it from one of its bounds on, from what follows next to one, or from the
// lowest version there is.
func (r Range) possible() bool {
	try := []string{"0.0.0-0"}
	for _, w := range strings.Fields(r.text) {
		m := comparator.FindStringSubmatch(w)
		if m == nil {
			continue // ||
		}
		v, err := semver.ParseTolerant(strings.Join(m[2:6], ""))
		if err != nil {
			continue
		}
		if len(v.Pre) > 0 {
			try = append(try, v.String(), v.String()+".0")
			continue
		}
		next := v
		next.Patch++
		try = append(try, v.String(), v.String()+"-0", next.String()+"-0", next.String()+"-0.0")
	}
	return slices.ContainsFunc(try, r.Contains)
}

var operatorSpace = regexp.MustCompile(`([<>=!])\s+`)

// String returns the range as it was written, "" for any version.
func (r Range) String() string { return r.text }

// Contains reports whether version, as a catalog gives it, is in the range. A
// version that is missing or unreadable is in no range but the zero one.
func (r Range) Contains(version string) bool {
	if r.in == nil {
		return true
	}
	if IsContentVersion(version) {
		return false
	}
	v, err := parseVersion(version)
	return err == nil && r.in(v)
}

// parseVersion reads a version as a catalog gives it.
func parseVersion(s string) (semver.Version, error) {
	if len(s) > MaxVersion {
		return semver.Version{}, fmt.Errorf("a version has %d bytes at most", MaxVersion)
	}
	return semver.ParseTolerant(s)
}

// ParseDependency reads "web", "web >=1.2" or "web>=1.2".
func ParseDependency(s string) (Dependency, error) {
	name, versions := strings.TrimSpace(s), ""
	if i := strings.IndexAny(name, " \t<>=!"); i >= 0 {
		name, versions = name[:i], name[i:]
	}
	r, err := ParseRange(versions)
	if err != nil {
		return Dependency{}, fmt.Errorf("dependency %.80q: %w", name, err)
	}
	return Dependency{Service: name, Version: r}, nil
}

// ValidVersion reports whether a catalog's version can be compared.
func ValidVersion(s string) bool {
	_, err := parseVersion(s)
	return err == nil && topics.ValidVersion(s)
}

// Newer reports whether version a is newer than b. One that cannot be compared is
// older than any that can.
func Newer(a, b string) bool {
	va, errA := parseVersion(a)
	vb, errB := parseVersion(b)
	if errA != nil || errB != nil {
		return errA == nil && errB != nil || errA != nil && errB != nil && a > b
	}
	return va.GT(vb)
}

// contentVersion begins the version of a service that has none of its own. It
// is a valid version, and no other is older.
const contentVersion = "0.0.0-0+content."

// ContentVersion returns the version of a service whose service.toml gives none:
// the hash of its code. It is in no range but the zero one.
func ContentVersion(hash string) string { return contentVersion + hash }

// IsContentVersion reports whether a version is the hash of the code.
func IsContentVersion(version string) bool { return strings.HasPrefix(version, contentVersion) }
