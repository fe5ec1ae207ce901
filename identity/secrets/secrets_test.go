package secrets

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

var (
	now   = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	quiet = slog.New(slog.DiscardHandler)
)

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newIdentity(t testing.TB) *Identity {
	t.Helper()
	return must[*Identity](t)(OpenIdentity(must[*identity.Store](t)(identity.OpenStore(t.TempDir())), false))
}

func openVault(t testing.TB, dir string) *Vault {
	t.Helper()
	store := must[*identity.Store](t)(identity.OpenStore(dir))
	return must[*Vault](t)(OpenVault(store, filepath.Join(dir, "secrets.json"), quiet))
}

var web = Context{"home", "pi-1", "web", "password"}

const value = "correct horse\n\xff$(x)"

func TestSealAndOpen(t *testing.T) {
	i, other := newIdentity(t), newIdentity(t)
	text := must[string](t)(Seal(i.Recipient(), web, []byte(value)))
	if strings.Contains(text, "correct") {
		t.Error("not sealed")
	}
	if got := must[[]byte](t)(i.Open(web, text)); string(got) != value {
		t.Errorf("%q", got)
	}
	if again := must[string](t)(Seal(i.Recipient(), web, []byte(value))); again == text {
		t.Error("two seals are one: whether a value is the same can be seen")
	}
	for _, c := range []Context{{"other", "pi-1", "web", "password"}, {"home", "pi-2", "web", "password"}, {"home", "pi-1", "db", "password"}, {"home", "pi-1", "web", "token"}} {
		if _, err := i.Open(c, text); !errors.Is(err, ErrOtherContext) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := other.Open(web, text); !errors.Is(err, ErrCannotOpen) {
		t.Errorf("another machine: %v", err)
	}
	for at := 0; at < len(text); at += 7 {
		bad := []byte(text)
		bad[at] ^= 1
		if _, err := i.Open(web, string(bad)); err == nil {
			t.Fatalf("opened with byte %d changed", at)
		}
	}
	for _, bad := range []string{"", "x", text[:len(text)-1], text + "A", "\n" + text, strings.Repeat("A", maxSealed+1)} {
		if _, err := i.Open(web, bad); !errors.Is(err, ErrCannotOpen) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "a\x00b", strings.Repeat("x", MaxValue+1)} {
		if _, err := Seal(i.Recipient(), web, []byte(bad)); err == nil {
			t.Errorf("%.20q was sealed", bad)
		}
	}
	if _, err := Seal("age1x", web, []byte("x")); err == nil {
		t.Error("sealed to nobody")
	}
	if long := strings.Repeat("\xff", MaxValue); string(must[[]byte](t)(i.Open(web, must[string](t)(Seal(i.Recipient(), web, []byte(long)))))) != long {
		t.Error("the longest value")
	}
}

func FuzzOpen(f *testing.F) {
	i := newIdentity(f)
	text := must[string](f)(Seal(i.Recipient(), web, []byte(value)))
	f.Add(text)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := i.Open(web, s); err == nil && s != text {
			t.Fatalf("opened %q", s)
		}
	})
}

func TestIdentityIsNeverReplaced(t *testing.T) {
	store := must[*identity.Store](t)(identity.OpenStore(t.TempDir()))
	i := must[*Identity](t)(OpenIdentity(store, false))
	if again := must[*Identity](t)(OpenIdentity(store, true)); again.Recipient() != i.Recipient() {
		t.Error("another identity")
	}
	private := must[[]byte](t)(os.ReadFile(store.Path(File)))
	damaged := string(private[:len(private)-3])
	if err := os.WriteFile(store.Path(File), []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	var lost *identity.KeyError
	if _, err := OpenIdentity(store, false); !errors.As(err, &lost) || strings.Contains(err.Error(), "AGE-SECRET") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(store.Path(File)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIdentity(store, true); !errors.As(err, &lost) {
		t.Errorf("%v", err)
	}
}

func TestVault(t *testing.T) {
	dir := t.TempDir()
	v, i := openVault(t, dir), newIdentity(t)
	if changed, err := v.Set("password", []byte(value), now); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if changed, err := v.Set("password", []byte(value), now.Add(time.Hour)); err != nil || changed {
		t.Errorf("the same value: %v, %v", changed, err)
	}
	revision := v.Revision("password")
	sealedText := must[string](t)(v.Seal(web, i.Recipient()))
	if err := v.Save(); err != nil {
		t.Fatal(err)
	}

	// A restart changes neither the revision nor the sealed bytes.
	v = openVault(t, dir)
	if got := v.Revision("password"); got != revision {
		t.Error("a restart changes the revision")
	}
	if got := must[string](t)(v.Seal(web, i.Recipient())); got != sealedText {
		t.Error("a restart seals anew")
	}
	if got := must[[]byte](t)(i.Open(web, sealedText)); string(got) != value {
		t.Errorf("%q", got)
	}
	if l := v.List(); len(l) != 1 || l[0] != (Secret{"password", now}) {
		t.Errorf("%v", l)
	}
	// Nothing on the disk shows the value.
	for _, file := range []string{"secrets.json", "secrets.json.previous"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if strings.Contains(string(b), "correct") {
			t.Errorf("%s shows the value", file)
		}
		if err == nil && file != "secrets.json" {
			t.Errorf("%s is there", file)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "secrets.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	// A new recipient, context or value calls for another seal.
	other := newIdentity(t)
	moved := must[string](t)(v.Seal(web, other.Recipient()))
	if got := must[[]byte](t)(other.Open(web, moved)); string(got) != value {
		t.Errorf("%q", got)
	}
	db := web
	db.Service = "db"
	if got := must[[]byte](t)(other.Open(db, must[string](t)(v.Seal(db, other.Recipient())))); string(got) != value {
		t.Errorf("%q", got)
	}
	if _, err := v.Set("password", []byte("new"), now); err != nil {
		t.Fatal(err)
	}
	if got := v.Revision("password"); got == revision || len(got) != 64 {
		t.Errorf("the revision of another value: %s", got)
	}
	if got := must[[]byte](t)(other.Open(web, must[string](t)(v.Seal(web, other.Recipient())))); string(got) != "new" {
		t.Errorf("%q", got)
	}

	// Who has had what is remembered after the secret is gone, until the domain is forgotten.
	if err := v.Remove("password"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Seal(web, other.Recipient()); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	if err := v.Remove("password"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	v = openVault(t, dir)
	if got := v.HadBy("pi-1"); !slices.Equal(got, []string{"password"}) || v.HadBy("pi-2") != nil {
		t.Errorf("%v", got)
	}
	if err := v.Forget("pi-1"); err != nil || openVault(t, dir).HadBy("pi-1") != nil {
		t.Errorf("%v", err)
	}
	for name, val := range map[string]string{"": "x", "a b": "x", "ok": "", "ok2": "a\x00"} {
		if _, err := v.Set(name, []byte(val), now); err == nil {
			t.Errorf("%q = %q was set", name, val)
		}
	}
}

// Values cannot be exchanged within the file, nor read with another key.
func TestVaultIsSealed(t *testing.T) {
	dir := t.TempDir()
	v := openVault(t, dir)
	for name, val := range map[string]string{"a": "1", "b": "2"} {
		if _, err := v.Set(name, []byte(val), now); err != nil {
			t.Fatal(err)
		}
	}
	v.state.Secrets["a"] = v.state.Secrets["b"]
	if err := v.write(); err != nil {
		t.Fatal(err)
	}
	v = openVault(t, dir)
	a := web
	a.Name = "a"
	if _, err := v.Seal(a, newIdentity(t).Recipient()); err == nil || v.Names()["a"] || !v.Names()["b"] {
		t.Errorf("a value under another name was read: %v, %v", v.Names(), err)
	}
	// Revisions of one value differ between hubs: nobody can compare.
	foreign := openVault(t, t.TempDir())
	if _, err := foreign.Set("b", []byte("2"), now); err != nil {
		t.Fatal(err)
	}
	if foreign.Revision("b") == v.Revision("b") {
		t.Error("one revision at two hubs")
	}
	// Its key is never replaced while there are secrets.
	if err := os.Remove(filepath.Join(dir, identity.Directory, keyFile)); err != nil {
		t.Fatal(err)
	}
	var lost *identity.KeyError
	store := must[*identity.Store](t)(identity.OpenStore(dir))
	if _, err := OpenVault(store, filepath.Join(dir, "secrets.json"), quiet); !errors.As(err, &lost) {
		t.Errorf("%v", err)
	}
}
