package topics

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// TextType is what a string of a payload may hold. The struct tag `type` of a
// field names the one of the field, for the elements of a list and for
// the values of an object; the tag `key` the one of an object's keys. Decode
// refuses a payload of which a string is not of its type. An empty string is
// always valid where it is a field: whether it may be empty is decided by its user.
type TextType struct {
	Name     string
	Expected string // of an error: what it must be
	Doc      string // its alphabet, for docs/protocol.md
	Example  string
	valid    func(string) bool
}

// Valid reports whether s, which is not empty, is of the type.
func (t TextType) Valid(s string) bool { return t.valid(s) }

// textTypes lists the types in the order of docs/protocol.md. Only a hash, a range
// and the last four hold what a shell or make could interpret: they are shown to people,
// compared or handed on, and are never a part of a command, of a name of a
// variable or of what a Makefile may read as $(X).
var textTypes = []TextType{
	{"name", "a name: use a-z, 0-9 and -, 63 characters at most, no - at the ends", "a DNS label: `a-z`, `0-9` and `-`, at most 63 characters, no `-` at either end", "pi-kitchen", ValidName},
	{"id", "an id: use letters, digits, . _ and -, 64 characters at most", "letters, digits, `.`, `_` and `-`, at most 64 characters; those of dominions and domains are UUIDs", "3f2a91c4-77aa-4c1e-9a52-0c4f1f3c0d11", ValidID},
	{"address", "an IP address or a host name", "an IP address, one of the local link with its zone (`fe80::1%eth0`), or a host name of RFC 1123: labels of letters, digits and `-`, joined by `.`, at most 253 characters", "192.168.1.20", ValidAddress},
	{"endpoint", `an address and a port, as "192.168.1.20:8080"`, "an address and a port from 1 to 65535, joined by `:`; IPv6 in brackets", "192.168.1.20:8080", ValidEndpoint},
	{"version", `a version, as "1.2.0"`, "a version of [semver](https://semver.org): up to three numbers, `-` and a pre-release, `+` and a build; a `v` may stand before it; at most 128 characters", "1.2.0", ValidVersion},
	{"range", `a range of versions, as ">=1.2 <2"`, "comparisons of versions, as `>=1.2 <2 || 3.0.1`: letters, digits, space and `.+-<>=!|`, at most 256 characters", ">=1.2 <2", validRange},
	{"build", "the version of a program: use letters, digits, . + _ and -, 128 characters at most", "letters, digits, `.`, `+`, `_` and `-`, at most 128 characters", "1.0.0", validBuild},
	{"protocol", `a version of the protocol, as "1.0"`, "two numbers joined by `.`", Protocol, validProtocol},
	{"word", "a word: use letters, digits, _ and -, a letter first, 63 characters at most", "letters, digits, `_` and `-`, a letter first, at most 63 characters", "running", validWord},
	{"platform", `a platform, as "linux/arm/v6"`, "two or three words of lower-case letters and digits, joined by `/`, as container images name it; at most 63 characters", "linux/arm/v6", validPlatform},
	{"variable", "the name of an environment variable: use letters, digits and _, no digit first", "letters, digits and `_`, no digit first", "COLOUR", ValidVariable},
	{"target", "a make target: use letters, digits, _ . and -, a letter or digit first", "letters, digits, `_`, `.` and `-`, a letter or digit first", "run", ValidTarget},
	{"digest", `a digest, as "sha256:" and 64 digits of 0-9, a-f`, "`sha256:` and 64 digits of `0-9` and `a-f`", "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", validDigest},
	{"hash", "a bcrypt hash", "a bcrypt hash: letters, digits, `$`, `.` and `/`, at most 128 characters", "$2a$10$7EqJtq98hPqEX7fNZaFWoO", validHash},
	{"url", "an http or https URL: use letters, digits and - . _ ~ : / ? # [ ] @ + , = %, 512 characters at most", "an `http` or `https` URL of letters, digits and `-._~:/?#[]@+,=%`, at most 512 characters", "https://example.com/web/1.2.0", ValidURL},
	{"path", "an absolute path without control characters", "an absolute path, without control characters, at most 4096 bytes", "/etc/web.env", validPath},
	{"line", "one line of text", "one line: no control characters", "kitchen lamp", validLine},
	{"sealed", "a sealed value in base64", "base64 without padding of a file of [age](https://age-encryption.org), at most 128 KiB", "YWdlLWVuY3J5cHRpb24ub3JnL3Yx", validSealed},
	{"value", "text without a NUL byte", "any text but NUL, at most 128 KiB; it is in the environment of a process byte for byte", "blue", validValue},
	{"text", "text", "any text, for people", "all is well", func(string) bool { return true }},
}

// TextTypes returns the types of the strings in payloads.
func TextTypes() []TextType { return textTypes }

func textType(name string) *TextType {
	for i := range textTypes {
		if textTypes[i].Name == name {
			return &textTypes[i]
		}
	}
	return nil
}

// only reports whether s has 1 to longest bytes, each of which is a letter, a
// digit of ASCII or one of more.
func only(s string, longest int, more string) bool {
	if len(s) == 0 || len(s) > longest {
		return false
	}
	for i := range len(s) {
		if !letter(s[i]) && !digit(s[i]) && strings.IndexByte(more, s[i]) < 0 {
			return false
		}
	}
	return true
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }

// ValidID reports whether s may be the id of a dominion, a domain, a session or
// a revision.
func ValidID(s string) bool { return only(s, 64, "._-") }

// ValidAddress reports whether s is an IP address or a host name of RFC 1123. A
// zone (RFC 4007) belongs to an address of the local link.
func ValidAddress(s string) bool {
	if len(s) > 253 {
		return false
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == "" || a.IsLinkLocalUnicast() && only(a.Zone(), 32, "._-")
	}
	for label := range strings.SplitSeq(s, ".") {
		if !only(label, 63, "-") || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// ValidEndpoint reports whether s is an address and a port.
func ValidEndpoint(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || !ValidAddress(host) || !only(port, 5, "") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// ValidVersion reports whether s is a version of semver, with up to two of its
// numbers left out.
func ValidVersion(s string) bool {
	if len(s) > 128 {
		return false
	}
	s, build, hasBuild := strings.Cut(strings.TrimPrefix(s, "v"), "+")
	core, pre, hasPre := strings.Cut(s, "-")
	numbers := strings.Count(core, ".") + 1
	if numbers > 3 || hasBuild && !only(build, 128, ".-") || hasPre && !only(pre, 128, ".-") || numbers < 3 && (hasBuild || hasPre) {
		return false
	}
	for number := range strings.SplitSeq(core, ".") {
		if !digits(number, 20) {
			return false
		}
	}
	return true
}

func digits(s string, longest int) bool {
	return only(s, longest, "") && !strings.ContainsFunc(s, func(r rune) bool { return !digit(byte(r)) })
}

// validRange looks at the alphabet alone: package services reads ranges.
func validRange(s string) bool {
	return len(s) <= 256 && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune(" .+-<>=!|", r)
	}) < 0
}

// validSealed looks at the alphabet alone: package identity/secrets opens it.
func validSealed(s string) bool { return only(s, 128<<10, "+/") }

func validBuild(s string) bool { return only(s, 128, ".+_-") }

func validProtocol(s string) bool {
	major, minor, _ := strings.Cut(s, ".")
	return digits(major, 9) && (minor == "" && !strings.Contains(s, ".") || digits(minor, 9))
}

func validWord(s string) bool { return only(s, 63, "_-") && letter(s[0]) }

// validPlatform takes system/architecture and system/architecture/variant.
func validPlatform(s string) bool {
	parts := strings.Split(s, "/")
	if len(s) > 63 || len(parts) < 2 || len(parts) > 3 {
		return false
	}
	for _, p := range parts {
		if !only(p, 63, "") || strings.ToLower(p) != p {
			return false
		}
	}
	return true
}

// ValidVariable reports whether s may be the name of an environment variable.
func ValidVariable(s string) bool { return only(s, 1024, "_") && !digit(s[0]) }

// ValidTarget reports whether s may be given to make: nothing that make would
// take for an option or an assignment.
func ValidTarget(s string) bool {
	return only(s, 1024, "_.-") && (letter(s[0]) || digit(s[0]))
}

// ValidURL reports whether s is an http or https URL with a host, without the
// characters that a shell takes for more than a part of a word.
func ValidURL(s string) bool {
	if !only(s, 512, "-._~:/?#[]@+,=%") {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && ValidAddress(u.Hostname())
}

func validHash(s string) bool { return only(s, 128, "$./") }

func validPath(s string) bool {
	return len(s) <= 4096 && strings.HasPrefix(s, "/") && validLine(s)
}

func validLine(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func validValue(s string) bool { return len(s) <= 128<<10 && strings.IndexByte(s, 0) < 0 }

// ValidTraitValue reports whether s may be the value of a trait, which a service
// reads as TRAIT_<NAME> and its Makefile as $(TRAIT_<NAME>): words of letters,
// digits and . _ : / @ + , - with one space between them, none of which begins
// with a -, but a number may. 255 characters at most. Nothing of it means
// anything to make or a shell.
func ValidTraitValue(s string) bool {
	if s == "" {
		return true
	}
	if len(s) > 255 {
		return false
	}
	for word := range strings.SplitSeq(s, " ") {
		if !only(word, 255, "._:/@+,-") || word[0] == '-' && (len(word) == 1 || !digit(word[1])) {
			return false
		}
	}
	return true
}
