package keys

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// listed returns the list that a message of the hub has, verified as a domain does.
func listed(t *testing.T, k *Keys) identity.KeyList {
	t.Helper()
	l, _, err := identity.VerifyKeyList(k.SignedKeyList(), dominion, k.Authority())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// revoke revokes a key by what a person writes.
func revoke(t *testing.T, k *Keys, key string) {
	t.Helper()
	if _, again, err := k.Revoke(key, time.Now()); err != nil || again {
		t.Fatalf("revoke %s: again %v, %v", key, again, err)
	}
}

// The list is made at the first start with the hub's key, is signed, grows by one with
// each change, and is the same after a restart.
func TestKeyListPersists(t *testing.T) {
	o := options(t.TempDir(), new(machine))
	k := open(t, o)
	if l := listed(t, k); l.Number != 1 || !l.HasHub(k.Published().Key) || len(l.Revoked) > 0 {
		t.Fatalf("the first list is %v", l)
	}
	chain, key := issue(t, k, identity.UserUse, "ada")
	revoke(t, k, key)
	if l := listed(t, k); l.Number != 2 || !l.IsRevoked(key) {
		t.Fatalf("after a revocation: %v", l)
	}
	if _, again, err := k.Revoke(key, time.Now()); err != nil || !again || listed(t, k).Number != 2 {
		t.Errorf("the same again: %v, %v", again, err)
	}
	before := k.SignedKeyList()
	k = open(t, o)
	if !bytes.Equal(k.SignedKeyList(), before) {
		t.Error("another list after a restart")
	}
	if who, issued, err := k.ForClients().Identify(chain); err == nil || !issued {
		t.Errorf("a revoked user is %v", who)
	}
	if i := slices.IndexFunc(k.Issued(), func(c topics.CertificateView) bool { return c.Key == key }); i < 0 || !k.Issued()[i].Revoked {
		t.Errorf("certificates: %+v", k.Issued())
	}
}

// A person names a key as it is shown, with or without spaces and hyphens, in any case.
func TestRevokeByLabel(t *testing.T) {
	k := open(t, options(t.TempDir(), new(machine)))
	for _, form := range []func(key string) string{
		func(key string) string { return key },
		func(key string) string { return key[:16] },
		identity.Label,
		func(key string) string { return strings.ToUpper(strings.ReplaceAll(identity.Label(key), " ", "-")) },
	} {
		_, key := issue(t, k, identity.UserUse, "ada")
		revoke(t, k, form(key))
		if !k.IsRevoked(key) {
			t.Errorf("%q revoked another key", form(key))
		}
	}
	unlisted := strings.Repeat("ab", 32)
	revoke(t, k, unlisted)
	if !slices.ContainsFunc(k.Issued(), func(c topics.CertificateView) bool { return c.Key == unlisted && c.Revoked }) {
		t.Error("a key that was issued nothing is not in the list")
	}
	for key, why := range map[string]string{
		k.Published().Key:       "key of the hub itself",
		k.Published().Key[:16]:  "key of the hub itself",
		"":                      "is not a key",
		"ada":                   "is not a key",
		strings.Repeat("0", 16): "no certificate",
		strings.Repeat("0", 63): "is not a key",
		strings.Repeat("z", 16): "no certificate",
		strings.Repeat("z", 64): "is not a key",
		"../../etc/passwd.....": "is not a key",
	} {
		if _, _, err := k.Revoke(key, time.Now()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("revoke %q: %v", key, err)
		}
	}
}

// All certificates of a removed user are revoked, those of others are not, and a revoked
// key gets no certificate again, nor does the key of one user for another.
func TestRevokeUser(t *testing.T) {
	k := open(t, options(t.TempDir(), new(machine)))
	_, first := issue(t, k, identity.UserUse, "ada")
	_, second := issue(t, k, identity.UserUse, "ada")
	_, other := issue(t, k, identity.UserUse, "bob")
	_, service := issue(t, k, identity.ServiceUse, "ada")
	if n, err := k.RevokeUser("ada", time.Now()); n != 2 || err != nil {
		t.Errorf("%d revoked, %v", n, err)
	}
	if l := listed(t, k); l.Number != 2 || !l.IsRevoked(first) || !l.IsRevoked(second) || l.IsRevoked(other) || l.IsRevoked(service) {
		t.Errorf("the list is %v", l)
	}
	if n, err := k.RevokeUser("ada", time.Now()); n != 0 || err != nil || listed(t, k).Number != 2 {
		t.Errorf("again: %d revoked, %v", n, err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := identity.NewRequest(key, "ada")
	if err != nil {
		t.Fatal(err)
	}
	issued, err := k.IssueForUser("ada", request, 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.IssueForUser("bob", request, 0, time.Now()); err == nil {
		t.Error("the key of one user got a certificate of another")
	}
	if _, err := k.Certify("id", &key.PublicKey, time.Now()); err == nil {
		t.Error("the key of a user got a certificate of a domain")
	}
	revoke(t, k, issued[0].Key)
	if _, err := k.IssueForUser("ada", request, 0, time.Now()); err == nil {
		t.Error("a revoked key got a certificate")
	}
}

// copyDir copies the files of a data_dir, as a backup does.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// A hub that was restored from a backup takes over the newer list that somebody shows;
// what it has revoked itself meanwhile stays; lists of others and older ones change
// nothing.
func TestRestoredHubTakesNewerList(t *testing.T) {
	o := options(t.TempDir(), new(machine))
	k := open(t, o)
	_, early := issue(t, k, identity.UserUse, "early")
	_, late := issue(t, k, identity.UserUse, "late")
	_, after := issue(t, k, identity.UserUse, "after")
	revoke(t, k, early)
	backup := o
	backup.DataDir = copyDir(t, o.DataDir)
	older := k.SignedKeyList()
	revoke(t, k, late)
	newest := k.SignedKeyList()

	restored := open(t, backup)
	if restored.IsRevoked(late) {
		t.Fatal("the backup is not one")
	}
	if changed, err := restored.TakeKeyList(older, time.Now()); changed || err != nil {
		t.Errorf("its own list: %v, %v", changed, err)
	}
	if changed, err := restored.TakeKeyList(newest, time.Now()); !changed || err != nil || !bytes.Equal(restored.SignedKeyList(), newest) {
		t.Errorf("the newer list: %v, %v", changed, err)
	}
	if changed, err := restored.TakeKeyList(older, time.Now()); changed || err != nil {
		t.Errorf("the older list: %v, %v", changed, err)
	}

	diverged := open(t, Options{DataDir: copyDir(t, backup.DataDir), Dominion: o.Dominion, Name: o.Name, Lifetime: o.Lifetime, Names: o.Names, Log: o.Log})
	revoke(t, diverged, after)
	revoke(t, k, strings.Repeat("cd", 32))
	for _, shown := range [][]byte{k.SignedKeyList(), newest, older} {
		if _, err := diverged.TakeKeyList(shown, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if l := listed(t, diverged); l.Number != 5 || len(l.Revoked) != 4 || !l.HasHub(diverged.Published().Key) {
		t.Errorf("the list of two that diverged is %v", l)
	}
	if l := listed(t, open(t, backup)); l.Number != 3 || !l.IsRevoked(late) {
		t.Errorf("after a restart: %v", l)
	}

	other := open(t, options(t.TempDir(), new(machine)))
	for name, message := range map[string][]byte{
		"another authority": other.SignedKeyList(),
		"altered":           bytes.Replace(newest, []byte(`"number":3`), []byte(`"number":9`), 1),
		"nonsense":          []byte("{}"),
		"nothing":           nil,
	} {
		if changed, err := restored.TakeKeyList(message, time.Now()); changed || err == nil {
			t.Errorf("%s was taken over", name)
		}
	}
}

// The list of certificates names a domain that was forgotten, also after a restart.
func TestForgottenDomainsAreNamed(t *testing.T) {
	o := options(t.TempDir(), new(machine))
	k := open(t, o)
	_, key := issue(t, k, identity.DomainUse, kitchenID)
	if _, err := k.RevokeDomain(kitchenID, "kitchen", key, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, hub := range map[string]*Keys{"at once": k, "after a restart": open(t, o)} {
		if row := hub.Row(key); len(row) != 1 || row[0].Domain != "kitchen" || !row[0].Revoked {
			t.Errorf("%s: %+v", name, row)
		}
	}
}

// The hub's own key is not revoked; what is said of it names what replaces it, and not what would
// make the hub a stranger.
func TestOwnKeyIsNotRevoked(t *testing.T) {
	k := open(t, options(t.TempDir(), new(machine)))
	if _, _, err := k.Revoke(k.hub.KeyHash(), time.Now()); err == nil || !strings.Contains(err.Error(), "dominionctl authority rotate") {
		t.Errorf("%v", err)
	}
}

// A user's certificate that was issued after the backup from which the hub was restored is refused:
// it is not listed, so neither `certificates revoke` nor `user remove` would end it. One of before
// counts, and is ended by both.
func TestRestoredHubAcceptsRecordedUsersOnly(t *testing.T) {
	o := options(t.TempDir(), new(machine))
	k := open(t, o)
	before, _ := issue(t, k, identity.UserUse, "ada")
	backup := o
	backup.DataDir = copyDir(t, o.DataDir)
	after, key := issue(t, k, identity.UserUse, "ada")
	restored := open(t, backup)
	if _, _, err := restored.ForClients().Identify(before); err != nil {
		t.Errorf("of before the backup: %v", err)
	}
	for name, side := range map[string]broker.Identity{"clients": restored.ForClients(), "browsers": restored.ForBrowsers()} {
		if who, _, err := side.Identify(after); err == nil || !strings.Contains(err.Error(), "dominionctl user certificate ada") {
			t.Errorf("%s: of after the backup it is %v, %v", name, who, err)
		}
	}
	if row := restored.Row(key); len(row) != 0 {
		t.Errorf("it is listed: %v", row)
	}
	if n, err := restored.RevokeUser("ada", time.Now()); n != 1 || err != nil {
		t.Errorf("revoked %d, %v", n, err)
	}
	for name, chain := range map[string][]*x509.Certificate{"before": before, "after": after} {
		if who, _, err := restored.ForClients().Identify(chain); err == nil {
			t.Errorf("a user who was removed: of %s the backup it is %v", name, who)
		}
	}
}

// A list that cannot be read is made anew; the one that the domains have is taken over.
func TestDamagedKeyList(t *testing.T) {
	o := options(t.TempDir(), new(machine))
	k := open(t, o)
	_, key := issue(t, k, identity.UserUse, "ada")
	revoke(t, k, key)
	before := k.SignedKeyList()
	if err := os.WriteFile(filepath.Join(o.DataDir, identity.Directory, keyListFile), before[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	k = open(t, o)
	if l := listed(t, k); l.Number != 1 || !l.HasHub(k.Published().Key) {
		t.Errorf("made anew: %v", l)
	}
	if changed, err := k.TakeKeyList(before, time.Now()); !changed || err != nil || !k.IsRevoked(key) {
		t.Errorf("taken over: %v, %v", changed, err)
	}
}

// A hub whose own key was revoked does not put it back.
func TestRevokedHubStaysRevoked(t *testing.T) {
	o := options(t.TempDir(), new(machine))
	k := open(t, o)
	l := k.KeyList().Revoke(identity.RevokedKey{Key: k.Published().Key, Use: identity.HubUse}, time.Now())
	var message []byte
	if err := k.With(func(h *identity.Hub) (err error) {
		message, err = l.Sign(h.Authority)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if changed, err := k.TakeKeyList(message, time.Now()); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	if l := listed(t, open(t, o)); l.HasHub(k.Published().Key) || l.Number != 2 {
		t.Errorf("after a restart: %v", l)
	}
}
