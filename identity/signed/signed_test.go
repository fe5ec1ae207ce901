package signed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var order = Context{Kind: "domain/services/set", Dominion: "home-1", Domain: "pi-1"}

const payload = `{"epoch":3,"services":[{"name":"web","environment":{"A":"1","a":"2"}}]}`

func TestSignAndVerify(t *testing.T) {
	key := newKey(t)
	m, err := Sign(key, order, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Sign(key, order, []byte(payload)); err != nil || string(again) != string(m) {
		t.Errorf("the same order has other bytes: %s, %v", again, err)
	}
	if n := len(m) - len(payload); n != len(`,"signature":""`)+86 || !strings.HasPrefix(string(m), payload[:len(payload)-1]+`,"signature":"`) || !strings.HasSuffix(string(m), `"}`) {
		t.Errorf("not the form of the protocol: %s", m)
	}
	got, err := Verify(&key.PublicKey, order, m)
	if err != nil || string(got) != payload {
		t.Errorf("%s, %v", got, err)
	}
	if !IsSigned(m) || HasMAC(m) {
		t.Error("the ending was not recognized")
	}
}

// A message is refused with any bit changed, in any other context, with any other key.
func TestVerifyRefuses(t *testing.T) {
	key := newKey(t)
	m, err := Sign(key, order, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	for i := range m {
		for bit := range 8 {
			bad := []byte(string(m))
			bad[i] ^= 1 << bit
			if p, err := Verify(&key.PublicKey, order, bad); err == nil {
				t.Fatalf("bit %d of byte %d changed: %s", bit, i, p)
			}
		}
	}
	for _, c := range []Context{
		{"command", order.Dominion, order.Domain},
		{order.Kind, "home-2", order.Domain},
		{order.Kind, order.Dominion, "pi-2"},
		{order.Kind, order.Dominion, ""},
		{order.Kind, "home-1\npi-1", ""},
		{"", order.Dominion, order.Domain},
	} {
		if _, err := Verify(&key.PublicKey, c, m); err == nil {
			t.Errorf("accepted for %+v", c)
		}
	}
	if _, err := Verify(&newKey(t).PublicKey, order, m); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if _, err := Verify(nil, order, m); err == nil {
		t.Error("no key")
	}
	text := string(m)
	for name, bad := range map[string]string{
		"unsigned":             payload,
		"empty":                "",
		"the ending alone":     text[len(payload)-1:],
		"space after it":       text + " ",
		"a member after it":    text[:len(text)-1] + `,"epoch":4}`,
		"a second signature":   text[:len(text)-1] + text[len(payload)-1:],
		"space in the ending":  strings.Replace(text, `,"signature"`, `, "signature"`, 1),
		"another name":         strings.Replace(text, `"signature"`, `"Signature"`, 1),
		"a line end within it": text[:len(text)-10] + "\n" + text[len(text)-9:],
		"padding":              text[:len(text)-3] + `="}`,
	} {
		if p, err := Verify(&key.PublicKey, order, []byte(bad)); err == nil {
			t.Errorf("%s: %s", name, p)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	key := newKey(t)
	for _, bad := range []string{"", "{}", "{ \n }", "[1]", `"x"`, `{"a":1}` + "\n", ` {"a":1}`, "online"} {
		if m, err := Sign(key, order, []byte(bad)); err == nil {
			t.Errorf("%q was signed: %s", bad, m)
		}
		if m, err := AppendMAC(make([]byte, 32), order, []byte(bad)); err == nil {
			t.Errorf("%q has a MAC: %s", bad, m)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(p384, order, []byte(payload)); err == nil {
		t.Error("signed with a key of another curve")
	}
	if VerifyBytes(&p384.PublicKey, []byte("x"), make([]byte, 64)) {
		t.Error("verified with a key of another curve")
	}
}

// RFC 6979, A.2.5: P-256, SHA-256, message "sample".
func TestDeterministicES256(t *testing.T) {
	number := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), number("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"))
	if err != nil {
		t.Fatal(err)
	}
	want := "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
	got, err := SignBytes(key, []byte("sample"))
	if err != nil || hex.EncodeToString(got) != want {
		t.Errorf("%x, %v", got, err)
	}
	if !VerifyBytes(&key.PublicKey, []byte("sample"), got) || VerifyBytes(&key.PublicKey, []byte("test"), got) {
		t.Error("verified wrongly")
	}
	for _, bad := range [][]byte{nil, make([]byte, 64), got[:63], append(got[:64:64], 0), append(new(big.Int).Lsh(big.NewInt(1), 511).Bytes(), got[64:]...)} {
		if VerifyBytes(&key.PublicKey, []byte("sample"), bad) {
			t.Errorf("%x is not a signature", bad)
		}
	}
}

func TestMAC(t *testing.T) {
	var keys [2][]byte
	for i := range keys {
		keys[i] = make([]byte, 32)
		rand.Read(keys[i])
	}
	m, err := AppendMAC(keys[0], order, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m) - len(payload); n != len(`,"mac":""`)+43 || !HasMAC(m) || IsSigned(m) {
		t.Errorf("not the form of the protocol: %s", m)
	}
	if got, err := VerifyMAC(keys[0], order, m); err != nil || string(got) != payload {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := Unverified(m); err != nil || string(got) != payload {
		t.Errorf("%s, %v", got, err)
	}
	for i := range m {
		bad := []byte(string(m))
		bad[i] ^= 1
		if _, err := VerifyMAC(keys[0], order, bad); err == nil {
			t.Fatalf("byte %d changed", i)
		}
	}
	if _, err := VerifyMAC(keys[1], order, m); !errors.Is(err, ErrSignature) {
		t.Errorf("the key of the other direction: %v", err)
	}
	other := order
	other.Kind = "domain/lease"
	if _, err := VerifyMAC(keys[0], other, m); err == nil {
		t.Error("another kind")
	}
	if _, err := VerifyMAC(nil, order, m); err == nil {
		t.Error("no key")
	}
	key := newKey(t)
	if _, err := Verify(&key.PublicKey, order, m); !errors.Is(err, ErrUnsigned) {
		t.Errorf("a MAC as a signature: %v", err)
	}
}

func TestExchange(t *testing.T) {
	a, err := NewEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	e := Exchange{"home-1", "pi-1", "session-1", "run-1"}
	public, err := ParseEphemeral(b.PublicKey().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	one, err := e.Derive(a, public)
	if err != nil {
		t.Fatal(err)
	}
	two, err := e.Derive(b, a.PublicKey())
	if err != nil || string(one.FromHub) != string(two.FromHub) || string(one.FromDomain) != string(two.FromDomain) {
		t.Errorf("the sides have other keys: %v", err)
	}
	if len(one.FromHub) != 32 || len(one.FromDomain) != 32 || string(one.FromHub) == string(one.FromDomain) {
		t.Error("the directions must have keys of their own, of 32 bytes")
	}
	for _, other := range []Exchange{{"home-2", "pi-1", "session-1", "run-1"}, {"home-1", "pi-2", "session-1", "run-1"}, {"home-1", "pi-1", "session-2", "run-1"}, {"home-1", "pi-1", "session-1", "run-2"}} {
		if k, err := other.Derive(a, public); err != nil || string(k.FromHub) == string(one.FromHub) || string(k.FromDomain) == string(one.FromDomain) {
			t.Errorf("%+v has the same keys, %v", other, err)
		}
	}
	for _, bad := range []Exchange{{}, {"home-1", "pi-1", "", "run-1"}, {"home-1", "pi-1\nsession", "1", "run-1"}} {
		if _, err := bad.Derive(a, public); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 65), b.PublicKey().Bytes()[:64]} {
		if _, err := ParseEphemeral(bad); err == nil {
			t.Errorf("%x is a point", bad)
		}
	}
}

type inner struct {
	Name        string            `json:"name"`
	Environment map[string]string `json:"environment"`
}

type Base struct {
	Epoch uint64 `json:"epoch"`
}

type outer struct {
	Base
	Services []inner          `json:"services"`
	By       map[string]inner `json:"by"`
	Next     *outer           `json:"next"`
	Kelvin   int              `json:"k"`
}

func TestNamesTwice(t *testing.T) {
	for _, ok := range []string{
		payload, `{}`, `{"epoch":1,"other":{"a":1},"more":[1,"x",null,true,{"b":[]}]}`,
		`{"services":[{"name":"a"},{"name":"b"}]}`, `{"by":{"X":{"name":"a"},"x":{"name":"b"}}}`,
		` { "epoch" : 1 , "k" : -1.5e3 } `, `{"services":[{"environment":{"PATH":"\"}","path":"\\"}}]}`, `[]`, `1`,
	} {
		if err := CheckNames[outer]([]byte(ok)); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{
		`{"epoch":1,"epoch":2}`, `{"epoch":1,"Epoch":2}`, `{"epoch":1,"\u0065poch":2}`, `{"epoch":1,"EPOCH":2}`,
		`{"services":[{"name":"a","nAme":"b"}]}`, `{"services":[{"environment":{"A":"1","A":"2"}}]}`,
		`{"services":[{"environment":{"A":"1","\u0041":"2"}}]}`, `{"by":{"x":{"name":"a","NAME":"b"}}}`, `{"by":{"x":{},"x":{}}}`,
		`{"next":{"epoch":1,"EPOCH":2}}`, `{"unknown":{"a":1,"A":2}}`, `{"unknown":[{"a":1,"a":2}]}`,
		"{\"k\":1,\"\u212a\":2}", `{"k":1,"\u212a":2}`, `{"a":1}x`, `{`, ``,
		strings.Repeat(`{"next":`, 100) + `1` + strings.Repeat(`}`, 100),
	} {
		if err := CheckNames[outer]([]byte(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	// few names are compared in another way than many
	for n := range 40 {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"n%d\"\\":"\\","v%d":"\"",`, i, i)
		}
		for at := range n {
			if err := CheckNames[any](fmt.Appendf(nil, `{%s"last":0}`, b.String())); err != nil {
				t.Fatal(err)
			}
			for _, again := range []string{"v", "V", `\u0076`} {
				if err := CheckNames[any](fmt.Appendf(nil, `{%s"%s%d":0}`, b.String(), again, at)); err == nil {
					t.Errorf("of %d names number %d is there twice", n, at)
				}
			}
		}
	}
	if err := CheckNames[any]([]byte(`{"a":{"x":1,"X":2}}`)); err == nil {
		t.Error("of a type that is not known, all names are compared in any case")
	}
}

func TestThrottle(t *testing.T) {
	var th Throttle
	now := time.Unix(1e9, 0)
	for range 1000 {
		if !th.Allow("good", now) {
			t.Fatal("a source that sent nothing wrong is limited")
		}
	}
	count := func(sources ...string) (n int) {
		for range 200 {
			for _, s := range sources {
				if th.Allow(s, now) {
					n++
				}
			}
		}
		return n
	}
	th.Failed("bad", now)
	th.Failed("worse", now)
	if n := count("bad", "worse"); n != throttleRate {
		t.Errorf("%d at once", n)
	}
	now = now.Add(time.Second)
	if n := count("bad"); n != throttleRate {
		t.Errorf("%d after a second", n)
	}
	now = now.Add(suspicion + time.Second)
	if n := count("bad"); n != 200 {
		t.Errorf("%d of one that has sent nothing wrong for a while", n)
	}
	for i := range 2 * maxSources {
		th.Failed(string(rune('a'+i%26))+strings.Repeat("x", i), now)
	}
	if len(th.wrong) > maxSources {
		t.Errorf("%d sources are remembered", len(th.wrong))
	}
	if n := count("never seen"); n > throttleRate {
		t.Errorf("%d while too many are wrong", n)
	}
}

func FuzzVerify(f *testing.F) {
	key := newKey(f)
	m, err := Sign(key, order, []byte(payload))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m)
	f.Add([]byte(payload))
	f.Fuzz(func(t *testing.T, message []byte) {
		p, err := Verify(&key.PublicKey, order, message)
		if err == nil && string(p) != payload {
			t.Fatalf("accepted %q", message)
		}
		if u, err := Unverified(message); err == nil && len(u) >= len(message) {
			t.Fatalf("%q of %q", u, message)
		}
		_ = CheckNames[outer](message)
		_ = CheckNames[any](message)
	})
}

// About a start command of 20 services.
func benchmarkPayload() []byte {
	return []byte(`{"epoch":3,"services":[` + strings.TrimSuffix(strings.Repeat(`{"name":"web","environment":{"A":"`+strings.Repeat("x", 200)+`"}},`, 20), ",") + `]}`)
}

// On ARMv6: GOARCH=arm GOARM=6 go test -c -o signed.test ./identity/signed, then
// qemu-arm ./signed.test -test.run=^$ -test.bench=.
func BenchmarkSign(b *testing.B) {
	key, p := newKey(b), benchmarkPayload()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sign(key, order, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	key := newKey(b)
	m, err := Sign(key, order, benchmarkPayload())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := Verify(&key.PublicKey, order, m)
		if err == nil {
			err = CheckNames[outer](p)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMAC(b *testing.B) {
	key := make([]byte, 32)
	p := []byte(`{"id":"3f2a91c4-77aa-4c1e-9a52-0c4f1f3c0d11","session":"5a2a91c4-77aa-4c1e-9a52-0c4f1f3c0d11","seq":12,"at":"2026-01-02T15:04:05.000Z","uptime":12.5,"epoch":3,"generation":4}`)
	b.ReportAllocs()
	for b.Loop() {
		m, err := AppendMAC(key, order, p)
		if err == nil {
			_, err = VerifyMAC(key, order, m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
