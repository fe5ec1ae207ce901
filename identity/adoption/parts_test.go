package adoption

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

const argon2Vector = "4fb19a871e1bb045f869d69d4c20a68b00627679506819a4a47c76d029fb8a85"

func TestCodes(t *testing.T) {
	for _, text := range []string{"K7QF-2M9X-4T1R", "k7qf2m9x4t1r", " K7QF 2M9X 4TIR\n", "k7qf-2m9x-4tlr", "K-7-Q-F2M9X4T1R"} {
		if c, err := ParseCode(text); err != nil || c != "K7QF2M9X4T1R" || c.String() != "K7QF-2M9X-4T1R" {
			t.Errorf("%q is %q, %v", text, c, err)
		}
	}
	if c, err := ParseCode("oO0o-iIlL-1111"); err != nil || c != "000011111111" {
		t.Errorf("%q, %v", c, err)
	}
	for _, bad := range []string{"", "ABCD-2M9X-4T1", "ABCD-2M9X-4T1RR", "ABCD-2M9X-4T1U", "ABCD_2M9X_4T1R", "ABCD-2M9X-4T1Ö"} {
		if c, err := ParseCode(bad); err == nil || len(bad) > 4 && strings.Contains(err.Error(), bad) {
			t.Errorf("%q is %q, %v", bad, c, err)
		}
	}
	all := make(map[Code]bool)
	for range 1000 {
		c := NewCode()
		if again, err := ParseCode(c.String()); err != nil || again != c || all[c] {
			t.Fatalf("%q is %q, %v", c, again, err)
		}
		all[c] = true
	}
	// argon2id, 19 MiB, t = 2, p = 1, salt = SHA-256 of the key; computed with another implementation.
	if got := hex.EncodeToString(Code("K7QF2M9X4T1R").Key([]byte("public key"))); got != argon2Vector {
		t.Errorf("%s", got)
	}
	if bytes.Equal(Code("K7QF2M9X4T1R").Key([]byte("a")), Code("K7QF2M9X4T1R").Key([]byte("b"))) {
		t.Error("one key of a code for two domains")
	}
}

func FuzzCode(f *testing.F) {
	f.Add("K7QF-2M9X-4T1R")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseCode(s); err == nil {
			if again, err := ParseCode(c.String()); err != nil || again != c {
				t.Fatalf("%q", s)
			}
		}
	})
}

func TestCodeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), CodeFile)
	first := must[Code](t)(OpenCode(path))
	if again := must[Code](t)(OpenCode(path)); again != first {
		t.Error("another code at the second start")
	}
	second := must[Code](t)(ReplaceCode(path))
	if again := must[Code](t)(OpenCode(path)); again != second || second == first {
		t.Error("not replaced")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("the former code is still there: %v", left)
	}
	if err := os.WriteFile(path, []byte(`{"code":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := must[Code](t)(OpenCode(path)); len(c) != codeLength {
		t.Errorf("%q", c)
	}
}

// Each part of the transcript has its length before it: no text moves from one field to the next.
func TestTranscript(t *testing.T) {
	all := make(map[string]string)
	for name, parts := range map[string][][]byte{
		"ab c": {[]byte("ab"), []byte("c")}, "a bc": {[]byte("a"), []byte("bc")}, "abc": {[]byte("abc")}, "abc ": {[]byte("abc"), nil},
		" abc": {nil, []byte("abc")}, "none": {},
	} {
		h := string(hashParts(parts...))
		if other, is := all[h]; is {
			t.Errorf("%q and %q are one", name, other)
		}
		all[h] = name
	}
	// Every field counts.
	q := Question{Protocol: "1.0", ID: "id", Name: "name", Key: []byte("key"), Recipient: "age", Ephemeral: []byte("eph"), Nonce: []byte("nonce")}
	m := Answer{Dominion: "home", Authority: []byte("root"), Certificate: [][]byte{[]byte("leaf")}, Ephemeral: []byte("eph"), Nonce: []byte("nonce"), Grant: []byte("grant")}
	base := transcript(q, m)
	for i, change := range []func(q *Question, m *Answer){
		func(q *Question, m *Answer) { q.Protocol += "x" }, func(q *Question, m *Answer) { q.ID += "x" },
		func(q *Question, m *Answer) { q.Name += "x" }, func(q *Question, m *Answer) { q.Key = []byte("x") },
		func(q *Question, m *Answer) { q.Recipient += "x" }, func(q *Question, m *Answer) { q.Ephemeral = []byte("x") },
		func(q *Question, m *Answer) { q.Nonce = []byte("x") }, func(q *Question, m *Answer) { m.Dominion += "x" },
		func(q *Question, m *Answer) { m.Authority = []byte("x") }, func(q *Question, m *Answer) { m.Certificate = nil },
		func(q *Question, m *Answer) { m.Ephemeral = []byte("x") }, func(q *Question, m *Answer) { m.Nonce = []byte("x") },
		func(q *Question, m *Answer) { m.Grant = []byte("x") },
	} {
		q, m := q, m
		change(&q, &m)
		if bytes.Equal(transcript(q, m), base) {
			t.Errorf("change %d does not count", i)
		}
	}
}

func TestToken(t *testing.T) {
	authority := sha256.Sum256([]byte("authority"))
	for _, use := range []TokenUse{ForDomain, ForHub} {
		token := must[Token](t)(NewToken(authority, use, "192.168.1.2", "pi.local:8883", "[fd00::1]:8883", "fd00::2"))
		text := token.String()
		if strings.ContainsAny(text, " \n-.") && strings.ContainsAny(text, " \n") {
			t.Errorf("%q is not one word", text)
		}
		got, err := ParseToken(" " + text + "\n")
		if err != nil || got.Use != use || got.Authority != authority || !slices.Equal(got.Addresses, token.Addresses) || !bytes.Equal(got.PublicKey(), token.PublicKey()) {
			t.Errorf("%+v, %v", got, err)
		}
		for i := range text {
			for _, bad := range []string{text[:i], text[:i] + text[i+1:], text[:i] + string(text[i]^1) + text[i+1:]} {
				if _, err := ParseToken(bad); err == nil {
					t.Errorf("%q was read", bad)
				} else if i > 40 && strings.Contains(err.Error(), text[20:40]) {
					t.Errorf("the error repeats the token: %v", err)
				}
			}
		}
	}
	for _, bad := range []struct {
		use   TokenUse
		addrs []string
	}{{"admin", nil}, {ForDomain, []string{"$(x)"}}, {ForDomain, []string{""}}, {ForDomain, slices.Repeat([]string{"a"}, 9)}} {
		if _, err := NewToken(authority, bad.use, bad.addrs...); err == nil {
			t.Errorf("%+v is a token", bad)
		}
	}
}

func FuzzToken(f *testing.F) {
	token := must[Token](f)(NewToken(sha256.Sum256([]byte("x")), ForDomain, "192.168.1.2", "pi.local:8883"))
	f.Add(token.String())
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseToken(text); err == nil && got.String() != strings.TrimSpace(text) {
			t.Fatalf("%q is %q", text, got)
		}
	})
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), LocalTokenFile)
	var before string
	for range 2 {
		token := must[Token](t)(NewToken(sha256.Sum256(nil), ForDomain, "127.0.0.1:8883"))
		if err := WriteTokenFile(path, token); err != nil {
			t.Fatal(err)
		}
		if got := must[Token](t)(ReadTokenFile(path)); got.String() != token.String() || got.String() == before {
			t.Error("another token")
		}
		before = token.String()
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("the former token is still there: %v", left)
	}
	for name, bad := range map[string]string{"missing": filepath.Join(t.TempDir(), "x"), "a directory": t.TempDir()} {
		if _, err := ReadTokenFile(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTokenFile(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func TestTokens(t *testing.T) {
	token := must[Token](t)(NewToken(sha256.Sum256(nil), ForDomain))
	public := token.PublicKey()
	a, b, c := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)
	tokens, record, err := Tokens{}.Add(token, "", 2, time.Hour, now)
	if err != nil || len(record.ID) != 8 {
		t.Fatal(record, err)
	}
	check := func(what string, want error, use TokenUse, key string, pending bool, at time.Time) {
		t.Helper()
		if _, err := tokens.Check(public, use, "pi", key, pending, at); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("new", nil, ForDomain, a, false, now)
	check("for a hub", ErrTokenUse, ForHub, a, false, now)
	tokens = tokens.Use(public, "pi", a, now)
	tokens = tokens.Use(public, "pi", a, now) // again after a power cut
	if tokens.Records[0].UsesLeft != 1 {
		t.Errorf("%+v", tokens)
	}
	tokens = tokens.Use(public, "pi2", b, now)
	check("a third one", ErrTokenUsed, ForDomain, c, false, now)
	check("one that has not confirmed", nil, ForDomain, a, true, now)
	check("one that has", ErrTokenUsed, ForDomain, a, false, now)
	check("by the clock", ErrTokenUnknown, ForDomain, a, true, now.Add(time.Hour))
	if _, err := tokens.Check([]byte("x"), ForDomain, "pi", a, false, now); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("%v", err)
	}
	// By running time, although the clock stands still.
	after, ended := tokens.Advance(59*time.Minute, now)
	if len(ended) != 0 || len(after.Records) != 1 {
		t.Errorf("%+v", ended)
	}
	if after, ended = after.Advance(time.Minute, now); len(ended) != 1 || len(after.Records) != 0 {
		t.Errorf("%+v", after)
	}
	if rest, removed := tokens.Remove(record.ID); !removed || len(rest.Records) != 0 || len(tokens.Records) != 1 {
		t.Error("not removed")
	}
	named, _, err := Tokens{}.Add(token, "kitchen", 1, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := named.Check(public, ForDomain, "pi", a, false, now); !errors.Is(err, ErrTokenName) {
		t.Errorf("%v", err)
	}
	if _, err := named.Check(public, ForDomain, "kitchen", a, false, now.AddDate(50, 0, 0)); err != nil {
		t.Errorf("one without an end: %v", err)
	}
	if after, ended := named.Advance(1000*time.Hour, now.AddDate(50, 0, 0)); len(ended) != 0 || len(after.Records) != 1 {
		t.Error("one without an end has ended")
	}
	for _, uses := range []int{0, -1, maxUses + 1} {
		if _, _, err := (Tokens{}).Add(token, "", uses, time.Hour, now); err == nil {
			t.Errorf("%d uses", uses)
		}
	}
}

func TestLimiter(t *testing.T) {
	var l Limiter
	at := now
	var waits []string
	for range 8 {
		if err := l.Check("a", at); err != nil {
			t.Fatal(err)
		}
		wait := l.Wrong("a", at)
		waits = append(waits, wait.String())
		if err := l.Check("a", at.Add(wait-1)); !errors.Is(err, ErrTooSoon) {
			t.Errorf("not slowed: %v", err)
		}
		if err := l.Check("b", at); err != nil {
			t.Errorf("another asker: %v", err)
		}
		at = at.Add(wait)
	}
	if got := strings.Join(waits, " "); got != "1s 2s 4s 8s 16s 32s 1m0s 1m0s" {
		t.Error(got)
	}
	l.Right("a")
	if wait := l.Wrong("a", at); wait != time.Second {
		t.Errorf("after a right one %v", wait)
	}
	if wait := l.Wrong("a", at.Add(forgetAfter+1)); wait != time.Second {
		t.Errorf("after a while %v", wait)
	}
	for i := range 2 * maxAskers {
		l.Wrong(strconv.Itoa(i), at)
	}
	if len(l.askers) > maxAskers {
		t.Errorf("%d askers", len(l.askers))
	}
}

func TestWords(t *testing.T) {
	var w Words
	give := func(word string) { w = w.Give(word) }
	confirm := func(word string, want bool) {
		t.Helper()
		after, ok := w.Confirm(word)
		if ok != want {
			t.Errorf("%s: %v, %+v", word, ok, w)
		}
		w = after
	}
	if w.Valid("") || w.Established() {
		t.Error("nothing is valid")
	}
	give("1")
	if w.Established() {
		t.Error("established before it was confirmed")
	}
	confirm("1", true)
	give("2")
	confirm("1", true) // its power was cut before it stored 2
	give("3")
	confirm("3", true) // it stored 3, and the confirmation was lost
	confirm("1", false)
	confirm("2", false)
	// The original and a copy both have 3: the first that comes goes on, the other one is found out.
	give("4")
	confirm("4", true)
	confirm("3", false)
	confirm("", false)
	for _, word := range []string{"5", "6", "7", "8", "9"} {
		give(word)
	}
	if len(w.Pending) != maxPending || !w.Valid("4") || w.Valid("5") || !w.Valid("9") {
		t.Errorf("%+v", w)
	}
	confirm("8", true)
	if w.Valid("7") || !w.Valid("9") || !w.Established() {
		t.Errorf("%+v", w)
	}
	key := WordKey("secret of the hub")
	one := key.New("kitchen", Words{})
	after := Words{}.Give(one)
	two := key.New("kitchen", after)
	restored := Words{Confirmed: one} // by a backup of that time
	for _, tt := range []struct {
		what  string
		key   WordKey
		id    string
		word  string
		words Words
		newer bool
	}{
		{"a word after the backup", key, "kitchen", two, restored, true},
		{"the word of the backup", key, "kitchen", one, restored, false},
		{"a former word", key, "kitchen", one, Words{Confirmed: two}, false},
		{"a word of another domain", key, "attic", two, restored, false},
		{"a word of another hub", WordKey("another"), "kitchen", two, restored, false},
		{"a word whose number was raised", key, "kitchen", "7" + two[1:], restored, false},
		{"a word without a number", key, "kitchen", "5f0c", restored, false},
		{"no key", nil, "kitchen", two, restored, false},
	} {
		if got := tt.key.Newer(tt.id, tt.word, tt.words); got != tt.newer {
			t.Errorf("%s: newer %v, want %v", tt.what, got, tt.newer)
		}
	}
	if one == key.New("kitchen", Words{}) {
		t.Error("two words are the same")
	}
}

func TestWindow(t *testing.T) {
	var w Window
	if w.IsOpen(now) || w.Take(now) == nil {
		t.Error("open at the start")
	}
	if err := w.Open(0, 0, now); err != nil || !w.IsOpen(now.Add(DefaultWindow-1)) || w.IsOpen(now.Add(DefaultWindow)) {
		t.Errorf("%v", err)
	}
	if err := w.Take(now); err != nil || w.IsOpen(now) || w.Take(now) == nil {
		t.Errorf("open after the first one: %v", err)
	}
	if err := w.Open(MaxWindow, 2, now); err != nil || w.Take(now) != nil || !w.IsOpen(now) || w.Take(now) != nil || w.IsOpen(now) {
		t.Errorf("%v", err)
	}
	for _, bad := range []struct {
		d time.Duration
		n int
	}{{MaxWindow + 1, 1}, {-1, 1}, {time.Minute, -1}, {time.Minute, 65}} {
		if err := w.Open(bad.d, bad.n, now); err == nil {
			t.Errorf("%+v", bad)
		}
	}
	if err := w.Open(time.Minute, 1, now); err != nil || !w.Next().Equal(now.Add(time.Minute)) || w.Expire(now) || !w.Expire(now.Add(time.Minute)) || w.Expire(now.Add(time.Minute)) || !w.Next().IsZero() {
		t.Errorf("%v", err)
	}
	w.Always = true
	for range 3 {
		if !w.IsOpen(now) || w.Take(now) != nil {
			t.Error("closed")
		}
	}
}

func TestWaiting(t *testing.T) {
	var w Waiting
	question := func(name string) Question {
		key := must[*ecdsa.PrivateKey](t)(identity.NewKey())
		return Question{Name: name, Key: must[[]byte](t)(identity.EncodePublicKey(&key.PublicKey))}
	}
	put := func(q Question, address string, at time.Time, wantAdded bool) {
		t.Helper()
		if added, err := w.Put(q, address, at); err != nil || added != wantAdded {
			t.Errorf("%s: %v, %v", q.Name, added, err)
		}
	}
	first := question("pi")
	put(first, "10.0.0.1", now, true)
	put(first, "10.0.0.1", now.Add(time.Second), false)
	put(question("pi"), "10.0.0.2", now, true)
	if l := w.Named("pi"); len(l) != 2 || len(w.List()) != 2 {
		t.Errorf("%v", l)
	}
	if l := w.Named(first.Label()[:9]); len(l) != 1 || l[0].Question.KeyHash() != first.KeyHash() || !strings.Contains(l[0].String(), first.Label()) {
		t.Errorf("%v", l)
	}
	// Four of one address: the one that was silent the longest goes.
	for i := range 6 {
		put(question("x"+strconv.Itoa(i)), "10.0.0.3", now.Add(time.Duration(i+2)*time.Second), true)
	}
	if l := w.List(); len(l) != 6 || l[2].Question.Name != "x2" {
		t.Errorf("%v", l)
	}
	if _, err := w.Put(question("y"), "10.0.0.3", now); err == nil {
		t.Error("one that asks at the same moment pushed another one out")
	}
	for i := range 100 {
		put(question("z"), "10.1.0."+strconv.Itoa(i), now.Add(time.Minute+time.Duration(i)), true)
	}
	if n := len(w.List()); n != maxWaiting {
		t.Errorf("%d wait", n)
	}
	if _, there := w.Get(first.KeyHash()); there {
		t.Error("the oldest is still there")
	}
	at := w.Next()
	if gone := w.Expire(at.Add(-1)); len(gone) != 0 {
		t.Errorf("%v", gone)
	}
	if gone := w.Expire(at); len(gone) == 0 {
		t.Error("nobody went")
	}
	w.Expire(now.Add(time.Hour))
	if len(w.List()) != 0 || !w.Next().IsZero() {
		t.Error("somebody still waits")
	}
	put(first, "10.0.0.1", now, true)
	w.Remove(first.KeyHash())
	if len(w.List()) != 0 {
		t.Error("not removed")
	}
}
