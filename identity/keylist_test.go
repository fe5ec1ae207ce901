package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

func sign(t testing.TB, l KeyList, a *Authority) []byte {
	t.Helper()
	return must[[]byte](t)(l.Sign(a))
}

var keyA, keyB = strings.Repeat("a", 64), strings.Repeat("b", 64)

func TestKeyList(t *testing.T) {
	root := newAuth(t)
	offline := must[*Authority](t)(root.Intermediate(home, now))
	l := KeyList{Dominion: home}.WithHub(HubKey{Key: keyA, Name: "hub"}).Revoke(RevokedKey{Key: keyB, Use: DomainUse, Name: "pi"}, now)
	if l.Number != 2 || !l.HasHub(keyA) || l.HasHub(keyB) || !l.IsRevoked(keyB) {
		t.Fatalf("%+v", l)
	}
	for name, a := range map[string]*Authority{"root": root, "intermediate": offline} {
		m := sign(t, l, a)
		if string(sign(t, l, a)) != string(m) {
			t.Errorf("%s: other bytes for the same list", name)
		}
		got, by, err := VerifyKeyList(m, home, newAuth(t).Root, root.Root)
		if err != nil || !by.Equal(root.Root) || got.Number != l.Number || !got.HasHub(keyA) || !got.IsRevoked(keyB) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, _, err := VerifyKeyList(m, "other", root.Root); err == nil {
			t.Errorf("%s: taken by another dominion", name)
		}
		if _, _, err := VerifyKeyList(m, home, newAuth(t).Root); !errors.Is(err, signed.ErrSignature) {
			t.Errorf("%s: of another authority: %v", name, err)
		}
		bad := []byte(strings.Replace(string(m), `"number":2`, `"number":9`, 1))
		if _, _, err := VerifyKeyList(bad, home, root.Root); err == nil {
			t.Errorf("%s: altered", name)
		}
	}
	// Signed by a hub, a domain, or an intermediate of another root.
	hubKey, hub := issue(t, root, HubUse, home, 0)
	rogue := &Authority{Root: root.Root, Certificate: hub[0], Key: hubKey, between: hub}
	if _, _, err := VerifyKeyList(sign(t, l, rogue), home, root.Root); err == nil {
		t.Error("signed by the hub's key")
	}
	other := must[*Authority](t)(newAuth(t).Intermediate(home, now))
	if _, _, err := VerifyKeyList(sign(t, l, other), home, root.Root); err == nil {
		t.Error("signed by an intermediate of another root")
	}
	if _, err := (KeyList{Dominion: home, Hubs: []HubKey{{Key: "x"}}}).Sign(root); err == nil {
		t.Error("a key that is none was signed")
	}
}

// Entries of users leave the list when their certificates have ended; a revoked hub leaves the hubs.
func TestRevoke(t *testing.T) {
	l := KeyList{Dominion: home}.WithHub(HubKey{Key: keyA}).
		Revoke(RevokedKey{Key: keyB, Use: UserUse, Expires: now.Add(day).Unix()}, now).
		Revoke(RevokedKey{Key: strings.Repeat("c", 64), Use: DomainUse, Expires: now.Add(day).Unix()}, now)
	next := l.Revoke(RevokedKey{Key: keyA, Use: HubUse}, now.Add(2*day))
	if next.HasHub(keyA) || next.IsRevoked(keyB) || len(next.Revoked) != 2 || len(l.Revoked) != 2 || !l.HasHub(keyA) || next.Number != l.Number+1 {
		t.Errorf("%+v after %+v", next, l)
	}
}

func TestTrust(t *testing.T) {
	old := newAuth(t)
	trust := Trust{Dominion: home, Authority: old.Root.Raw, Word: "word"}
	take := func(m []byte, changed bool, want error) {
		t.Helper()
		after, is, err := trust.TakeKeyList(m)
		if is != changed || !errors.Is(err, want) {
			t.Errorf("changed %v, %v; want %v, %v", is, err, changed, want)
		}
		trust = after
	}
	take(nil, false, signed.ErrUnsigned)
	first := KeyList{Dominion: home}.WithHub(HubKey{Key: keyA})
	second := first.WithHub(HubKey{Key: keyB})
	take(sign(t, second, old), true, nil)
	take(sign(t, second, old), false, nil)
	take(sign(t, first, old), false, ErrOlderList)
	take(sign(t, first.Revoke(RevokedKey{Key: keyB}, now), old), false, ErrOtherList)
	take(sign(t, KeyList{Dominion: home, Number: 1 << 63}, newAuth(t)), false, signed.ErrSignature)
	v, err := trust.Verifier(nil)
	if err != nil || !v.Keys.HasHub(keyB) {
		t.Errorf("%v", err)
	}

	// Rotation: the old one names the next, the next one signs, the old one is over.
	next := newAuth(t)
	third := second.WithoutHub(keyB)
	take(sign(t, third, next), false, signed.ErrSignature)
	third.Next = next.Root.Raw
	take(sign(t, third, old), true, nil)
	if string(trust.Authority) != string(old.Root.Raw) || string(trust.Next) != string(next.Root.Raw) {
		t.Error("the next authority is not pinned")
	}
	fourth := third.WithHub(HubKey{Key: keyB})
	fourth.Next = nil
	take(sign(t, fourth, next), true, nil)
	if string(trust.Authority) != string(next.Root.Raw) || trust.Next != nil {
		t.Error("the next authority does not count")
	}
	take(sign(t, fourth.WithoutHub(keyA), old), false, signed.ErrSignature)
	if v, err := trust.Verifier(nil); err != nil || v.Keys.Number != 4 || trust.Word != "word" {
		t.Errorf("%v", err)
	}
	bad := fourth.WithoutHub(keyA)
	_, leaf := issue(t, next, HubUse, home, 0)
	bad.Next = leaf[0].Raw
	if _, changed, err := trust.TakeKeyList(sign(t, bad, next)); err == nil || changed {
		t.Error("a hub's certificate became an authority")
	}
}

func FuzzKeyList(f *testing.F) {
	a := newAuth(f)
	offline := must[*Authority](f)(a.Intermediate(home, now))
	l := KeyList{Dominion: home}.WithHub(HubKey{Key: keyA})
	good := map[string]bool{string(sign(f, l, a)): true, string(sign(f, l, offline)): true}
	for m := range good {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		if _, _, err := VerifyKeyList(m, home, a.Root); err == nil && !good[string(m)] {
			t.Fatalf("accepted %q", m)
		}
	})
}

func TestDomainStoresItsTrust(t *testing.T) {
	dir := t.TempDir()
	a := newAuth(t)
	d := must[*Domain](t)(OpenDomain(dir, false))
	cert := must[*x509.Certificate](t)(a.Issue(Request{Subject: Subject{home, DomainUse, "pi"}, Key: &d.Key.PublicKey, At: now}))
	trust := Trust{Dominion: home, Authority: a.Root.Raw, Keys: sign(t, KeyList{Dominion: home}.WithHub(HubKey{Key: keyA}), a)}
	if err := d.Pin(trust, []*x509.Certificate{cert}); err != nil {
		t.Fatal(err)
	}
	again := must[*Domain](t)(OpenDomain(dir, true))
	if !again.Adopted() || !again.Chain[0].Equal(cert) || string(again.Trust.Keys) != string(trust.Keys) || again.TLS().PrivateKey == nil {
		t.Errorf("%+v", again.Trust)
	}
	_, other := issue(t, a, DomainUse, "pi", 0)
	if err := d.SetCertificate(other); err == nil {
		t.Error("a certificate of another key was stored")
	}
	if err := d.SetTrust(Trust{Dominion: home, Authority: []byte("x")}); err == nil {
		t.Error("an authority that is none was pinned")
	}
	if err := os.WriteFile(filepath.Join(dir, Directory, trustFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var broken *KeyError
	if _, err := OpenDomain(dir, true); !errors.As(err, &broken) {
		t.Errorf("a damaged pin: %v", err)
	}
}

// taken takes the authority of a hub offline, and returns what `authority offline FILE` writes.
func taken(t *testing.T, h *Hub) []byte {
	t.Helper()
	text := must[[]byte](t)(h.ExportAuthority())
	if err := h.TakeOffline(now); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestOffline(t *testing.T) {
	dir := t.TempDir()
	h, _ := openHub(t, dir, false)
	root := h.Authority.Root
	text := taken(t, h)
	left, err := filepath.Glob(filepath.Join(dir, Directory, authorityKeyFile+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("the root's key is still here: %v", left)
	}
	again, err := openHub(t, dir, true)
	if err != nil || !again.Authority.Offline() || !again.Authority.Root.Equal(root) {
		t.Fatalf("%v", err)
	}
	v := Verifier{Dominion: home, Roots: []*x509.Certificate{root}}
	if _, err := v.Verify(again.Chain, now, HubUse); err != nil || len(again.Chain) != 2 {
		t.Errorf("%v", err)
	}
	if third, err := openHub(t, dir, true); err != nil || !third.Chain[0].Equal(again.Chain[0]) {
		t.Errorf("%v", err)
	}
	// An intermediate neither takes the authority offline nor replaces it.
	if _, err := again.ExportAuthority(); !errors.Is(err, ErrNotHere) {
		t.Errorf("exported: %v", err)
	}
	if err := again.TakeOffline(now); !errors.Is(err, ErrNotHere) {
		t.Errorf("taken offline twice: %v", err)
	}
	if _, err := again.NextAuthority(now); !errors.Is(err, ErrNotHere) || again.Rotating() {
		t.Errorf("replaced: %v", err)
	}
	// Without the intermediate's key the file is a remedy too.
	for _, broken := range []string{"x", ""} {
		path := filepath.Join(dir, Directory, intermediateKeyFile)
		good := must[[]byte](t)(os.ReadFile(path))
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if broken == "" {
			os.Remove(path)
		}
		var lost *KeyError
		if _, err := openHub(t, dir, true); !errors.As(err, &lost) || !strings.Contains(err.Error(), "authority offline") || !strings.Contains(err.Error(), hubRemedy) {
			t.Errorf("an intermediate without its key: %v", err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What was written is the authority, whole, and decides where it is put back.
	if a, err := ParseAuthority(text, text); err != nil || !a.Root.Equal(root) {
		t.Errorf("%v", err)
	}
	former := hashOf(again.Authority.Certificate)
	if err := os.WriteFile(filepath.Join(dir, Directory, authorityKeyFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	back, err := openHub(t, dir, true)
	if err != nil || back.Authority.Offline() || !back.Authority.Root.Equal(root) || back.FormerIntermediate() != former {
		t.Fatalf("put back: %v", err)
	}
	taken(t, back)
	if hashOf(back.Authority.Certificate) == former || !back.Authority.Offline() {
		t.Error("the intermediate was not replaced")
	}
}

// An intermediate that was stolen does nothing once a list by the authority revokes it,
// however far it has counted, and never names another authority.
func TestStolenIntermediate(t *testing.T) {
	root := newAuth(t)
	stolen, other := must[*Authority](t)(root.Intermediate(home, now)), must[*Authority](t)(root.Intermediate(home, now))
	first := KeyList{Dominion: home}.WithHub(HubKey{Key: keyA})
	trust := Trust{Dominion: home, Authority: root.Root.Raw}
	take := func(l KeyList, by *Authority, want error) {
		t.Helper()
		after, changed, err := trust.TakeKeyList(sign(t, l, by))
		if !errors.Is(err, want) || changed != (err == nil) {
			t.Fatalf("changed %v, %v; want %v", changed, err, want)
		}
		trust = after
	}
	take(first, stolen, nil)
	bad := first.WithHub(HubKey{Key: keyB})
	bad.Next = newAuth(t).Root.Raw
	if _, changed, err := trust.TakeKeyList(sign(t, bad, stolen)); err == nil || changed {
		t.Error("an intermediate named another authority")
	}
	bad.Next, bad.Number = nil, 1<<64-1
	take(bad, stolen, nil)
	good := first.Revoke(RevokedKey{Key: hashOf(stolen.Certificate), Use: AuthorityUse}, now)
	take(good, other, ErrOlderList)
	take(good, root, nil)
	bad.Hubs = nil
	take(bad, stolen, ErrRevoked)
	good.Number++
	take(good, other, nil)
	take(first, root, ErrOlderList)
	// Nor does what it has issued count, but for a domain that is known by its key, and
	// users whose key the hub has listed.
	v, err := trust.Verifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range []Use{HubUse, DomainUse, UserUse, ServiceUse} {
		_, chain := issue(t, stolen, use, "x", 0)
		with := v
		if use == HubUse {
			l := v.Keys.WithHub(HubKey{Key: hashOf(chain[0])})
			with.Keys = &l
		}
		if _, err := with.Verify(chain, now, use); !errors.Is(err, ErrChain) {
			t.Errorf("%s: %v", use, err)
		}
		known := func(s Subject, key string) bool { return s.Name == "x" && key == hashOf(chain[0]) }
		with.Known, with.Issued = known, known
		if _, err := with.Verify(chain, now, use); (err == nil) != (use != HubUse) {
			t.Errorf("%s, known: %v", use, err)
		}
	}
}

func TestRotateAuthority(t *testing.T) {
	for _, compromised := range []bool{false, true} {
		dir := t.TempDir()
		h, _ := openHub(t, dir, false)
		if err := h.UseNextAuthority(compromised, now); err == nil {
			t.Error("replaced by nothing")
		}
		before := h.Authority
		former := before.Root
		trust := Trust{Dominion: home, Authority: former.Raw}
		userKey := must[*ecdsa.PrivateKey](t)(NewKey())
		user := must[[]*x509.Certificate](t)(h.Issue(Subject{Use: UserUse, Name: "tv"}, &userKey.PublicKey, 0, now))
		next := must[*Authority](t)(h.NextAuthority(now))
		if again := must[*Authority](t)(h.NextAuthority(now)); !again.Root.Equal(next.Root) || !h.Rotating() {
			t.Error("another next authority")
		}
		if _, err := h.ExportAuthority(); err == nil {
			t.Error("an authority that is being replaced was exported")
		}
		hubKey := must[string](t)(h.NextKey())
		l := KeyList{Dominion: home}.WithHub(HubKey{Key: h.KeyHash()}).WithHub(HubKey{Key: hubKey})
		l.Next = next.Root.Raw
		trust, _, err := trust.TakeKeyList(sign(t, l, h.Authority))
		if err != nil {
			t.Fatal(err)
		}
		if trust.Newest() != hashOf(next.Root) {
			t.Error("the next authority is not the newest one")
		}
		if err := h.UseNextAuthority(compromised, now); err != nil || h.Rotating() {
			t.Fatal(err)
		}
		again, err := openHub(t, dir, true)
		if err != nil || !again.Authority.Root.Equal(next.Root) || again.KeyHash() != hubKey {
			t.Fatalf("%v", err)
		}
		v, err := trust.Verifier(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(again.Chain, now, HubUse); err != nil {
			t.Errorf("a domain that has the list: %v", err)
		}
		left, _ := filepath.Glob(filepath.Join(dir, Directory, "*.previous"))
		left = slices.DeleteFunc(left, func(f string) bool { return !strings.HasSuffix(f, ".key.previous") })
		more, _ := filepath.Glob(filepath.Join(dir, Directory, "*next*"))
		if left = append(left, more...); len(left) > 0 {
			t.Errorf("former keys are still here: %v", left)
		}
		// Who trusts the former authority alone, as a device with ca.pem, verifies the hub still,
		// also with an intermediate between, and certificates of users stay; nothing of that is so
		// for one that is compromised.
		taken(t, again)
		old := Verifier{Dominion: home, Roots: []*x509.Certificate{former}}
		if _, err := old.Verify(again.Chain, now, HubUse); (err == nil) == compromised {
			t.Errorf("compromised %v, by the former authority: %v", compromised, err)
		}
		if _, err := again.Verifier(nil, nil).Verify(user, now, UserUse); (err == nil) == compromised {
			t.Errorf("compromised %v, a user's certificate: %v", compromised, err)
		}
		if _, listed := again.Ledger.Find(hashOf(user[0])); listed == compromised {
			t.Errorf("compromised %v: the user's certificate is listed: %v", compromised, listed)
		}
		forged := must[*x509.Certificate](t)(before.Issue(Request{Subject: Subject{home, UserUse, "tv"}, Key: &must[*ecdsa.PrivateKey](t)(NewKey()).PublicKey, At: now}))
		if _, err := again.Verifier(nil, nil).Verify([]*x509.Certificate{forged}, now, UserUse); err == nil {
			t.Error("a certificate counts that the hub did not issue")
		}
	}
}

func TestBrowser(t *testing.T) {
	h, _ := openHub(t, t.TempDir(), false)
	b := h.Browser
	roots := x509.NewCertPool()
	roots.AddCert(b.Root)
	if !b.Root.PermittedDNSDomainsCritical || len(b.Root.PermittedIPRanges) == 0 {
		t.Error("the root has no critical name constraints")
	}
	for _, host := range []string{"pi.local", "pi", "localhost", "192.168.1.5", "127.0.0.1"} {
		if _, err := b.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if d := b.Leaf.NotAfter.Sub(b.Leaf.NotBefore); d > 397*24*time.Hour {
		t.Errorf("lasts %v", d)
	}
	if len(b.Leaf.ExtKeyUsage) != 1 || b.Leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("%v", b.Leaf.ExtKeyUsage)
	}
	// Whoever has its key can vouch for nothing beyond a home.
	for _, bad := range []Names{{Hosts: []string{"bank.example"}}, MakeNames("x", nil, "8.8.8.8")} {
		leaf := *b.Leaf
		leaf.DNSNames, leaf.IPAddresses = bad.Hosts, ipsOf(bad.Addresses)
		cert := must[*x509.Certificate](t)(create(&leaf, b.Root, &b.key.PublicKey, b.rootKey))
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now}); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	// A public address is left out of the leaf, as it could not be verified.
	if err := h.Renew(MakeNames("pi", nil, "8.8.8.8", "bank.example"), now); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "pi.local", CurrentTime: now}); err != nil {
		t.Error(err)
	}
	// It is another root than the one that domains pin.
	if _, err := h.Verifier(nil, nil).Verify([]*x509.Certificate{b.Leaf, b.Root}, now, HubUse); err == nil {
		t.Error("a hub by the browsers' root")
	}
	profile := string(b.MobileConfig())
	if !strings.Contains(profile, base64.StdEncoding.EncodeToString(b.Root.Raw)) || !strings.Contains(profile, "Home &amp; &lt;away&gt;") || profile != string(b.MobileConfig()) {
		t.Error(profile)
	}
	if c := must[[]*x509.Certificate](t)(ParseCertificates(b.PEM())); !c[0].Equal(b.Root) {
		t.Error("another certificate")
	}
}

func TestMerge(t *testing.T) {
	base := KeyList{Dominion: home}.WithHub(HubKey{Key: keyA})
	restored := base.WithHub(HubKey{Key: keyB})
	newer := base.WithHub(HubKey{Key: strings.Repeat("c", 64)}).Revoke(RevokedKey{Key: keyA}, now)
	for _, m := range []KeyList{restored.Merge(newer), newer.Merge(restored)} {
		if m.Number != 4 || m.HasHub(keyA) || !m.IsRevoked(keyA) || !m.HasHub(keyB) || len(m.Hubs) != 2 {
			t.Errorf("%+v", m)
		}
	}
}

func TestPublishedCertificate(t *testing.T) {
	h, _ := openHub(t, t.TempDir(), false)
	c := h.Published()
	l := KeyList{Dominion: home}.WithHub(HubKey{Key: h.KeyHash()})
	v := h.Verifier(&l, nil)
	if p, err := v.VerifyPublished(c, now); err != nil || p.KeyHash != h.KeyHash() {
		t.Errorf("%+v, %v", p, err)
	}
	other := c
	other.Key = keyA
	if _, err := v.VerifyPublished(other, now); err == nil {
		t.Error("a certificate under the name of another key")
	}
	if _, err := v.VerifyPublished(topics.HubCertificateView{Key: c.Key}, now); err == nil {
		t.Error("no certificate")
	}
	second, _ := openHub(t, t.TempDir(), false)
	if _, err := v.VerifyPublished(second.Published(), now); !errors.Is(err, ErrChain) {
		t.Errorf("a stranger: %v", err)
	}
}
