package template

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenEnd      tokenKind = iota
	tokenText               // outside of all markup
	tokenBegin              // {{ or {%
	tokenClose              // }} or %}
	tokenName               // also keywords
	tokenString             // its value
	tokenInteger            // as it is written, without underscores
	tokenFloat              // likewise
	tokenOperator           // and punctuation
)

type token struct {
	kind tokenKind
	text string
}

// operators by length, the longest first.
var operators = []string{"**", "//", "==", "!=", "<=", ">=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", "<", ">", "=", ".", ":", "|", ","}

// lex splits a template into tokens. Whitespace control and comments are dealt
// with here.
func lex(text string) (all []token) {
	if strings.Contains(text, "\r") {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	trim := false // the last markup ended with a minus
	for text != "" {
		start := nextMarkup(text)
		before, found := text[:start], start < len(text)
		if trim {
			before = strings.TrimLeftFunc(before, isSpace)
		}
		if !found {
			return append(appendText(all, before), token{kind: tokenEnd})
		}
		kind, sign := text[start:start+2], ""
		text = text[start+2:]
		if text != "" && (text[0] == '-' || text[0] == '+') {
			sign, text = text[:1], text[1:]
		}
		if sign == "-" {
			before = strings.TrimRightFunc(before, isSpace)
		}
		all = appendText(all, before)
		if kind == "{#" {
			comment, rest, closed := strings.Cut(text, "#}")
			if !closed {
				fail("a comment has no end")
			}
			trim, text = strings.HasSuffix(comment, "-"), rest
			continue
		}
		all = append(all, token{tokenBegin, kind})
		all, text, trim = lexCode(all, text, map[string]string{"{{": "}}", "{%": "%}"}[kind])
	}
	return append(all, token{kind: tokenEnd})
}

// nextMarkup returns where the next markup begins, len(text) without any.
func nextMarkup(text string) int {
	for i := 0; i+1 < len(text); i++ {
		if text[i] == '{' && (text[i+1] == '{' || text[i+1] == '%' || text[i+1] == '#') {
			return i
		}
	}
	return len(text)
}

func appendText(all []token, text string) []token {
	if text == "" {
		return all
	}
	return append(all, token{tokenText, text})
}

// lexCode reads up to what closes the markup.
func lexCode(all []token, text, closing string) (_ []token, rest string, trim bool) {
	open := 0 // brackets: "}}" within them is no end
	for {
		text = strings.TrimLeftFunc(text, isSpace)
		if open == 0 {
			for _, sign := range []string{"-", "+", ""} {
				if rest, ok := strings.CutPrefix(text, sign+closing); ok && (sign != "+" || closing == "%}") {
					return append(all, token{tokenClose, closing}), rest, sign == "-"
				}
			}
		}
		if text == "" {
			fail("%q has no end", closing)
		}
		afterDot := len(all) > 0 && all[len(all)-1] == token{tokenOperator, "."}
		t, size := lexOne(text, afterDot)
		if t.kind == tokenOperator {
			switch t.text {
			case "(", "[", "{":
				open++
			case ")", "]", "}":
				if open--; open < 0 {
					fail("unexpected %q", t.text)
				}
			}
		}
		all, text = append(all, t), text[size:]
	}
}

// lexOne reads one token and returns its length. The number after a dot is an
// index and has no fraction.
func lexOne(text string, afterDot bool) (token, int) {
	c := text[0]
	r, _ := utf8.DecodeRuneInString(text)
	switch {
	case c == '\'' || c == '"':
		return lexString(text)
	case c >= '0' && c <= '9':
		return lexNumber(text, afterDot)
	case r == '_' || unicode.IsLetter(r):
		n := strings.IndexFunc(text, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if n < 0 {
			n = len(text)
		}
		return token{tokenName, text[:n]}, n
	}
	for _, op := range operators {
		if strings.HasPrefix(text, op) {
			return token{tokenOperator, op}, len(op)
		}
	}
	fail("unexpected %q", r)
	return token{}, 0
}

// lexNumber reads a number as Jinja does, with "_" between digits.
func lexNumber(text string, afterDot bool) (token, int) {
	digits := func(i int) int {
		for i < len(text) && (text[i] >= '0' && text[i] <= '9' || text[i] == '_' && i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '9') {
			i++
		}
		return i
	}
	n, kind := digits(0), tokenInteger
	if n == 1 && text[0] == '0' && len(text) > 1 && strings.ContainsRune("xXoObB", rune(text[1])) {
		unsupported("a number that begins with %q", text[:2])
	}
	if !afterDot {
		if n+1 < len(text) && text[n] == '.' && digits(n+1) > n+1 {
			n, kind = digits(n+1), tokenFloat
		}
		if n < len(text) && (text[n] == 'e' || text[n] == 'E') {
			i := n + 1
			if i < len(text) && (text[i] == '+' || text[i] == '-') {
				i++
			}
			if end := digits(i); end > i {
				n, kind = end, tokenFloat
			}
		}
	}
	return token{kind, strings.ReplaceAll(text[:n], "_", "")}, n
}

// lexString reads a constant with Python's escapes.
func lexString(text string) (token, int) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == text[0]:
			return token{tokenString, b.String()}, i + 1
		case c != '\\' || i+1 == len(text):
			b.WriteByte(c)
		default:
			i++
			i += escape(&b, text[i:])
		}
	}
	fail("a text has no end")
	return token{}, 0
}

// escape writes what follows a backslash, and returns how many more bytes than
// one it took.
func escape(b *strings.Builder, text string) int {
	if r, ok := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', '\\': '\\', '\'': '\'', '"': '"', 'a': '\a', 'b': '\b', 'f': '\f', 'v': '\v'}[text[0]]; ok {
		b.WriteByte(r)
		return 0
	}
	if n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[text[0]]; n > 0 {
		if len(text) <= n {
			fail("a text has a wrong escape")
		}
		code, err := strconv.ParseUint(text[1:1+n], 16, 32)
		if err != nil || !utf8.ValidRune(rune(code)) {
			fail("a text has a wrong escape")
		}
		b.WriteRune(rune(code))
		return n
	}
	if c := text[0]; c >= '0' && c <= '7' || c == 'N' || c == '\n' || c >= utf8.RuneSelf {
		unsupported(`the escape \%c`, c)
	}
	b.WriteByte('\\') // as Python does with what is no escape
	b.WriteByte(text[0])
	return 0
}

// isSpace reports whether Python's str.strip takes r away.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
