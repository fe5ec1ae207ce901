package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const home = "3f2a91c4-77aa-4c1e-9a52-0c4f1f3c0d11"

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newAuth(t testing.TB) *Authority { return must[*Authority](t)(NewAuthority(home, now)) }

func newKey(t testing.TB) *ecdsa.PrivateKey { return must[*ecdsa.PrivateKey](t)(NewKey()) }

func issue(t testing.TB, a *Authority, use Use, name string, lifetime time.Duration) (*ecdsa.PrivateKey, []*x509.Certificate) {
	t.Helper()
	key := newKey(t)
	cert := must[*x509.Certificate](t)(a.Issue(Request{Subject: Subject{home, use, name}, Key: &key.PublicKey, At: now, Lifetime: lifetime}))
	return key, append([]*x509.Certificate{cert}, a.between...)
}

func TestSubject(t *testing.T) {
	for _, tt := range []struct {
		s   Subject
		uri string
	}{
		{Subject{home, HubUse, home}, "dominion:" + home + ":hub:" + home},
		{Subject{home, DomainUse, "pi-1"}, "dominion:" + home + ":domain:pi-1"},
		{Subject{home, ServiceUse, "web.pi"}, "dominion:" + home + ":service:web.pi"},
		{Subject{home, UserUse, "Jürg: a/b?c#d"}, "dominion:" + home + ":user:J%C3%BCrg:%20a%2Fb%3Fc%23d"},
	} {
		if got := tt.s.String(); got != tt.uri {
			t.Errorf("%+v is %s, want %s", tt.s, got, tt.uri)
		}
		if got, err := ParseSubject(tt.uri); err != nil || got != tt.s {
			t.Errorf("%s is %+v, %v", tt.uri, got, err)
		}
	}
	for _, bad := range []string{
		"", "dominion:", "dominion:" + home, "dominion:" + home + ":domain", "dominion:" + home + ":domain:", "dominion:" + home + ":root:x",
		"Dominion:" + home + ":domain:x", "dominion:a b:domain:x", "dominion:" + home + ":domain:%41", "dominion:" + home + ":domain:%0a",
		"dominion://" + home + ":domain:x", "dominion:" + home + ":domain:x y", "dominion:" + home + ":domain:" + strings.Repeat("x", 200),
		"dominion:" + home + ":domain:x?y", "dominion:" + home + ":domain:%ff",
	} {
		if s, err := ParseSubject(bad); err == nil {
			t.Errorf("%q is %+v", bad, s)
		}
	}
	// What is in a certificate comes out of it.
	for _, s := range []Subject{{home, UserUse, "Jürg: a/b?c#d"}, {home, UserUse, strings.Repeat("x", 128)}, {home, HubUse, home}} {
		cert := must[*x509.Certificate](t)(newAuth(t).Issue(Request{Subject: s, Key: &newKey(t).PublicKey, At: now}))
		if got, err := SubjectOf(cert); err != nil || got != s {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func FuzzSubject(f *testing.F) {
	f.Add("dominion:" + home + ":user:J%C3%BCrg")
	f.Fuzz(func(t *testing.T, uri string) {
		if s, err := ParseSubject(uri); err == nil && s.String() != uri {
			t.Fatalf("%q is %q", uri, s)
		}
	})
}

func TestKeys(t *testing.T) {
	key := newKey(t)
	if again := must[*ecdsa.PrivateKey](t)(ParseKey(must[[]byte](t)(EncodeKey(key)))); !again.Equal(key) {
		t.Error("another key")
	}
	der := must[[]byte](t)(EncodePublicKey(&key.PublicKey))
	if again := must[*ecdsa.PublicKey](t)(ParsePublicKey(der)); !again.Equal(&key.PublicKey) {
		t.Error("another public key")
	}
	hash := must[string](t)(HashKey(&key.PublicKey))
	if !ValidKeyHash(hash) || hash != HashEncodedKey(der) || ValidKeyHash(strings.ToUpper(hash)) && strings.ToUpper(hash) != hash {
		t.Error(hash)
	}
	if l := Label(hash); len(l) != 19 || strings.ReplaceAll(l, " ", "") != hash[:16] {
		t.Error(l)
	}
	p384 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	other := must[[]byte](t)(x509.MarshalPKIXPublicKey(&p384.PublicKey))
	for _, bad := range [][]byte{nil, der[:len(der)-1], append(der[:len(der):len(der)], 0), other} {
		if _, err := ParsePublicKey(bad); err == nil {
			t.Errorf("%x is a key", bad)
		}
	}
	for _, bad := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := ParseKey([]byte(bad)); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}

func TestCertificates(t *testing.T) {
	a := newAuth(t)
	key := newKey(t)
	names := MakeNames("Pi.example.org", []netip.Addr{netip.MustParseAddr("192.168.1.5")})
	cert := must[*x509.Certificate](t)(a.Issue(Request{Subject: Subject{home, HubUse, home}, Key: &key.PublicKey, At: now, Names: names}))
	for _, c := range []*x509.Certificate{a.Root, cert} {
		if !c.NotBefore.Equal(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) || !Issued(c).Equal(now) {
			t.Errorf("from %v, issued %v", c.NotBefore, Issued(c))
		}
	}
	if d := a.Root.NotAfter.Sub(now); d != 20*365*24*time.Hour {
		t.Errorf("the authority lasts %v", d)
	}
	if d := cert.NotAfter.Sub(now); d != 8760*time.Hour {
		t.Errorf("the hub's certificate lasts %v", d)
	}
	if got := RenewAt(cert).Sub(now); got != 8760*time.Hour/3*2 {
		t.Errorf("renewed after %v", got)
	}
	if RenewalDue(cert, RenewAt(cert).Add(-time.Second)) || !RenewalDue(cert, RenewAt(cert)) {
		t.Error("not due after two thirds")
	}
	for _, host := range []string{"pi", "pi.local", "pi.example.org", "localhost", "192.168.1.5", "127.0.0.1", "::1"} {
		if err := cert.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if got := namesOf(cert); !got.Equal(names) {
		t.Errorf("%+v", got)
	}
	for _, bad := range []Request{
		{Subject: Subject{home, "admin", "x"}, Key: &key.PublicKey},
		{Subject: Subject{"", DomainUse, "x"}, Key: &key.PublicKey},
		{Subject: Subject{home, DomainUse, ""}, Key: &key.PublicKey},
		{Subject: Subject{home, DomainUse, "x"}},
		{Subject: Subject{home, DomainUse, "x"}, Key: &a.Key.PublicKey},
		{Subject: Subject{home, DomainUse, "x"}, Key: &key.PublicKey, Lifetime: -1},
	} {
		if _, err := a.Issue(bad); err == nil {
			t.Errorf("issued for %+v", bad.Subject)
		}
	}
	// A clock that is out of all bounds gives a certificate all the same.
	if c, err := a.Issue(Request{Subject: Subject{home, DomainUse, "x"}, Key: &key.PublicKey, At: time.Date(9999, 12, 1, 0, 0, 0, 0, time.UTC)}); err != nil || c.NotAfter.Year() != 9999 {
		t.Errorf("%v", err)
	}
}

func TestClocks(t *testing.T) {
	defer func(before string) { buildDate = before }(buildDate)
	buildDate = "2026-06-01T00:00:00Z"
	built, boot := BuildDate(), time.Unix(60, 0)
	if got := Reference(boot, time.Time{}); !got.Equal(built) {
		t.Errorf("at 1970: %v", got)
	}
	if got := Reference(boot, now); !got.Equal(now) {
		t.Errorf("at 1970, with a certificate: %v", got)
	}
	if got := Reference(now.Add(time.Hour), now); !got.Equal(now.Add(time.Hour)) {
		t.Errorf("with a clock: %v", got)
	}
	if got := Clock(boot); !got.Equal(built) {
		t.Errorf("verified at %v", got)
	}
	buildDate = "yesterday"
	if !BuildDate().IsZero() {
		t.Error("a build date that is none")
	}
}

func TestVerify(t *testing.T) {
	a := newAuth(t)
	v := Verifier{Dominion: home, Roots: []*x509.Certificate{a.Root}}
	key, hub := issue(t, a, HubUse, home, 0)
	hash := must[string](t)(HashKey(&key.PublicKey))
	p, err := v.Verify(hub, now, HubUse)
	if err != nil || p.KeyHash != hash || p.Subject != (Subject{home, HubUse, home}) || p.Expired || !p.Key.Equal(&key.PublicKey) {
		t.Fatalf("%+v, %v", p, err)
	}
	// At any clock before its end, back to 1970.
	if _, err := v.Verify(hub, time.Unix(0, 0), HubUse); err != nil {
		t.Error(err)
	}

	refused := func(what string, v Verifier, chain []*x509.Certificate, at time.Time, want error, uses ...Use) {
		t.Helper()
		if _, err := v.Verify(chain, at, uses...); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("another use", v, hub, now, ErrUse, DomainUse, UserUse)
	refused("nothing", v, nil, now, ErrChain, HubUse)
	refused("the authority's own", v, []*x509.Certificate{a.Root}, now, ErrUse, HubUse)
	stranger := newAuth(t)
	_, forged := issue(t, stranger, HubUse, home, 0)
	refused("another authority", v, forged, now, ErrChain, HubUse)
	refused("another authority, with its root", v, append(forged, stranger.Root), now, ErrChain, HubUse)
	neighbour := v
	neighbour.Dominion = "other"
	refused("another dominion", neighbour, hub, now, ErrDominion, HubUse)
	// A domain's certificate that issues one of a hub.
	domainKey, domain := issue(t, a, DomainUse, "pi", 0)
	rogue := &Authority{Root: a.Root, Certificate: domain[0], Key: domainKey, between: domain}
	_, under := issue(t, rogue, HubUse, home, 0)
	refused("issued by a domain", v, under, now, ErrChain, HubUse)
	// A certificate of ours that does not say its use, whatever its name.
	plain := *hub[0]
	plain.URIs = nil
	refused("no use", v, []*x509.Certificate{must[*x509.Certificate](t)(create(&plain, a.Root, &key.PublicKey, a.Key))}, now, ErrUse, HubUse)
	two := *hub[0]
	two.URIs = append(two.URIs[:1:1], Subject{home, DomainUse, "pi"}.URI())
	refused("two uses", v, []*x509.Certificate{must[*x509.Certificate](t)(create(&two, a.Root, &key.PublicKey, a.Key))}, now, ErrUse, HubUse)

	// Key list.
	l := KeyList{Dominion: home}.WithHub(HubKey{Key: hash})
	v.Keys = &l
	if _, err := v.Verify(hub, now, HubUse); err != nil {
		t.Error(err)
	}
	_, second := issue(t, a, HubUse, home, 0)
	refused("a hub that is not in the list", v, second, now, ErrNotListed, HubUse)
	if _, err := v.Verify(domain, now, DomainUse); err != nil {
		t.Error(err)
	}
	revoked := l.Revoke(RevokedKey{Key: hashOf(domain[0]), Use: DomainUse}, now).Revoke(RevokedKey{Key: hash, Use: HubUse}, now)
	v.Keys = &revoked
	refused("a revoked domain", v, domain, now, ErrRevoked, DomainUse)
	refused("a revoked hub", v, hub, now, ErrRevoked, HubUse)
}

// After 13 months, hub and domain that know each other are accepted, others are not.
func TestVerifyAfterTheEnd(t *testing.T) {
	a := newAuth(t)
	later := now.AddDate(1, 1, 0)
	for _, use := range []Use{HubUse, DomainUse, UserUse, ServiceUse} {
		_, chain := issue(t, a, use, "x", 0)
		l := KeyList{Dominion: home}.WithHub(HubKey{Key: hashOf(chain[0])})
		v := Verifier{Dominion: home, Roots: []*x509.Certificate{a.Root}, Keys: &l}
		if _, err := v.Verify(chain, later, use); !errors.Is(err, ErrExpired) {
			t.Errorf("%s that nobody knows: %v", use, err)
		}
		v.Known = func(s Subject, key string) bool { return s.Use == use && key == hashOf(chain[0]) }
		p, err := v.Verify(chain, later, use)
		if use == HubUse || use == DomainUse {
			if err != nil || !p.Expired {
				t.Errorf("known %s: %+v, %v", use, p, err)
			}
			r := l.Revoke(RevokedKey{Key: hashOf(chain[0])}, later)
			v.Keys = &r
			if _, err := v.Verify(chain, later, use); !errors.Is(err, ErrRevoked) {
				t.Errorf("known, ended and revoked: %v", err)
			}
		} else if !errors.Is(err, ErrExpired) {
			t.Errorf("known %s: %v", use, err)
		}
	}
}

// An intermediate in the place of the root; the root is pinned.
func TestIntermediate(t *testing.T) {
	root := newAuth(t)
	a := must[*Authority](t)(root.Intermediate(home, now))
	if !a.Offline() || root.Offline() || a.RootHash() != root.RootHash() {
		t.Error("the root is another one")
	}
	_, chain := issue(t, a, HubUse, home, 0)
	v := Verifier{Dominion: home, Roots: []*x509.Certificate{root.Root}}
	if _, err := v.Verify(chain, now, HubUse); err != nil || len(chain) != 2 {
		t.Errorf("%d certificates, %v", len(chain), err)
	}
	if _, err := v.Verify(chain[:1], now, HubUse); !errors.Is(err, ErrChain) {
		t.Errorf("without the intermediate: %v", err)
	}
	certs, key := EncodeCertificates(a.Certificate, root.Root), must[[]byte](t)(EncodeKey(a.Key))
	if again := must[*Authority](t)(ParseAuthority(certs, key)); !again.Root.Equal(root.Root) || len(again.between) != 1 {
		t.Error("read otherwise")
	}
	for name, certs := range map[string][]byte{"no root": EncodeCertificates(a.Certificate), "another key's": EncodeCertificates(root.Root), "a leaf": EncodeCertificates(chain...), "nothing": nil, "another root": EncodeCertificates(a.Certificate, newAuth(t).Root)} {
		if _, err := ParseAuthority(certs, key); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestTLS(t *testing.T) {
	a := newAuth(t)
	hubKey, hub := issue(t, a, HubUse, home, 0)
	domainKey, domain := issue(t, a, DomainUse, "pi", 0)
	v := Verifier{Dominion: home, Roots: []*x509.Certificate{a.Root}}
	connect := func(server tls.Certificate, v Verifier) (client Peer, seen []*x509.Certificate, err error) {
		near, far := net.Pipe()
		defer near.Close()
		done := make(chan error, 1)
		s := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert})
		go func() { done <- s.Handshake(); far.Close() }()
		c := tls.Client(near, v.VerifyHub(TLSCertificate(domainKey, domain), func() time.Time { return now }, func(p Peer) { client = p }))
		err = c.Handshake()
		near.Close()
		if errServer := <-done; err == nil {
			err = errServer
		}
		return client, s.ConnectionState().PeerCertificates, err
	}
	p, seen, err := connect(TLSCertificate(hubKey, hub), v)
	if err != nil || p.Subject.Use != HubUse || len(seen) == 0 || !seen[0].Equal(domain[0]) {
		t.Errorf("%+v, %v", p, err)
	}
	strangerKey, stranger := issue(t, newAuth(t), HubUse, home, 0)
	if _, _, err := connect(TLSCertificate(strangerKey, stranger), v); !errors.Is(err, ErrChain) {
		t.Errorf("a stranger: %v", err)
	}
	if _, _, err := connect(TLSCertificate(domainKey, domain), v); !errors.Is(err, ErrUse) {
		t.Errorf("a domain in the place of the hub: %v", err)
	}
}

func TestRequests(t *testing.T) {
	h, _ := openHub(t, t.TempDir(), false)
	key := newKey(t)
	csr := must[[]byte](t)(NewRequest(key, "phone"))
	chain := must[[]*x509.Certificate](t)(h.SignRequest(csr, Subject{Use: UserUse, Name: "phone"}, 30*day, now))
	if p, err := h.Verifier(nil, nil).Verify(chain, now, UserUse); err != nil || p.Subject.Name != "phone" || !p.Key.Equal(&key.PublicKey) || chain[0].NotAfter.Sub(now) != 30*day {
		t.Errorf("%+v, %v", p, err)
	}
	bad := []byte(strings.Replace(string(csr), "A", "B", 3))
	for _, tt := range []struct {
		csr      []byte
		s        Subject
		lifetime time.Duration
	}{
		{bad, Subject{Use: UserUse, Name: "x"}, day},
		{nil, Subject{Use: UserUse, Name: "x"}, day},
		{csr, Subject{Use: HubUse, Name: "x"}, day},
		{csr, Subject{Use: DomainUse, Name: "x"}, day},
		{csr, Subject{Use: UserUse, Name: "x"}, MaxUserLifetime + 1},
		{csr, Subject{Use: UserUse, Name: ""}, day},
		{must[[]byte](t)(NewRequest(h.Key, "x")), Subject{Use: UserUse, Name: "x"}, day},
		{must[[]byte](t)(NewRequest(h.Authority.Key, "x")), Subject{Use: UserUse, Name: "x"}, day},
	} {
		if _, err := h.SignRequest(tt.csr, tt.s, tt.lifetime, now); err == nil {
			t.Errorf("signed for %+v, %v", tt.s, tt.lifetime)
		}
	}
	if i, found := h.Ledger.Find(hashOf(chain[0])); !found || i.Name != "phone" || !i.Issued.Equal(now) {
		t.Errorf("%+v", i)
	}
}

// The ledger lists a user's key until the last certificate of it ends: until then it must be possible
// to revoke it.
func TestLedgerListsKeysUntilTheirLastCertificateEnds(t *testing.T) {
	h, _ := openHub(t, t.TempDir(), false)
	csr := must[[]byte](t)(NewRequest(newKey(t), "phone"))
	long := must[[]*x509.Certificate](t)(h.SignRequest(csr, Subject{Use: UserUse, Name: "phone"}, 30*day, now))
	must[[]*x509.Certificate](t)(h.SignRequest(csr, Subject{Use: UserUse, Name: "phone"}, day, now))
	other := func(at time.Time) {
		must[[]*x509.Certificate](t)(h.SignRequest(must[[]byte](t)(NewRequest(newKey(t), "tv")), Subject{Use: UserUse, Name: "tv"}, day, at))
	}
	other(now.Add(29 * day))
	if i, listed := h.Ledger.Find(hashOf(long[0])); !listed || !i.Expires.Equal(long[0].NotAfter) {
		t.Errorf("before its end: %+v, %v", i, listed)
	}
	other(now.Add(31 * day))
	if _, listed := h.Ledger.Find(hashOf(long[0])); listed {
		t.Error("it is listed after its end")
	}
}

func FuzzRequest(f *testing.F) {
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	csr, err := NewRequest(key, "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr)
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := ParseRequest(text); err == nil && k.Curve != elliptic.P256() {
			t.Fatal("a key of another curve")
		}
	})
}

func TestNames(t *testing.T) {
	addr := netip.MustParseAddr
	n := MakeNames("Pi", []netip.Addr{addr("192.168.1.5"), addr("fe80::1%eth0"), addr("::ffff:10.0.0.1"), addr("192.168.1.5"), addr("0.0.0.0"), {}}, "hub.example.org.", "10.1.2.3", "not a name", "")
	if got := strings.Join(n.Hosts, " "); got != "hub.example.org localhost pi pi.local" {
		t.Error(got)
	}
	var got []string
	for _, a := range n.Addresses {
		got = append(got, a.String())
	}
	if s := strings.Join(got, " "); s != "10.0.0.1 10.1.2.3 127.0.0.1 192.168.1.5 ::1 fe80::1" {
		t.Error(s)
	}
	var many []netip.Addr
	for i := range 1000 {
		many = append(many, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if n := MakeNames("pi", many); len(n.Addresses) > maxNames {
		t.Errorf("%d addresses", len(n.Addresses))
	}
	temporary := temporaryAddresses("fd000000000000000000000000000001 02 40 00 01     eth0\nfd000000000000000000000000000002 02 40 00 80     eth0\nfe800000000000000000000000000003 02 40 20 20 eth0\nx\n\nzz000000000000000000000000000002 02 40 00 01 eth0\n")
	if len(temporary) != 2 || !temporary[addr("fd00::1")] || !temporary[addr("fe80::3")] {
		t.Errorf("%v", temporary)
	}
	local := must[Names](t)(LocalNames())
	if len(local.Hosts) == 0 || len(local.Addresses) < 2 {
		t.Errorf("%+v", local)
	}
}

func TestRenewal(t *testing.T) {
	a := newAuth(t)
	make := func(at time.Time) *x509.Certificate {
		return must[*x509.Certificate](t)(a.Issue(Request{Subject: Subject{home, HubUse, home}, Key: &newKey(t).PublicKey, At: at}))
	}
	names := MakeNames("pi", nil)
	cert := make(now)
	r := NewRenewal(names, cert, make(now.Add(day)))
	if r.Expire(now) || !r.Next(now).Equal(RenewAt(cert)) {
		t.Errorf("due at %v", r.Next(now))
	}
	// A change of names is followed at once, the next one after 10 minutes.
	at := now.Add(time.Hour)
	for i, other := range []Names{MakeNames("pi", []netip.Addr{netip.MustParseAddr("10.0.0.1")}), MakeNames("pi", []netip.Addr{netip.MustParseAddr("10.0.0.2")}), names} {
		r.SetNames(other)
		next := r.Next(at)
		if i == 0 && !next.Equal(at) || i > 0 && next.Sub(at) != namesInterval {
			t.Errorf("change %d is followed after %v", i, next.Sub(at))
		}
		if i > 0 && r.Expire(next.Add(-time.Second)) || !r.Expire(next) {
			t.Errorf("change %d", i)
		}
		at = next
		r.Done(at, r.Names(), make(at))
	}
	r.SetNames(MakeNames("pi", []netip.Addr{netip.MustParseAddr("10.0.0.3")}))
	r.SetNames(names) // as before: nothing to do
	if r.Expire(at.Add(time.Hour)) {
		t.Error("made anew without a change")
	}
	// After two thirds, again and again if it fails.
	at = r.Next(at)
	if !r.Expire(at) {
		t.Error("not renewed")
	}
	r.Failed(at)
	if r.Expire(at.Add(retryInterval-1)) || !r.Expire(at.Add(retryInterval)) {
		t.Error("not tried again after a minute")
	}
	r.Done(at, names, make(at))
	if r.Expire(at.Add(time.Hour)) {
		t.Error("renewed twice")
	}
}

func openHub(t testing.TB, dir string, known bool) (*Hub, error) {
	t.Helper()
	h, err := OpenHub(dir, HubOptions{Dominion: home, Name: "Home & <away>", Names: MakeNames("pi", []netip.Addr{netip.MustParseAddr("192.168.1.5")}), Known: known, Now: now})
	if err != nil && !known {
		t.Fatal(err)
	}
	return h, err
}

func TestHub(t *testing.T) {
	dir := t.TempDir()
	h, _ := openHub(t, dir, false)
	if p, err := h.Verifier(nil, nil).Verify(h.Chain, now, HubUse); err != nil || p.KeyHash != h.KeyHash() {
		t.Errorf("%+v, %v", p, err)
	}
	again, err := openHub(t, dir, true)
	if err != nil || !again.Key.Equal(h.Key) || !again.Authority.Root.Equal(h.Authority.Root) || !again.Chain[0].Equal(h.Chain[0]) || !again.Browser.Leaf.Equal(h.Browser.Leaf) {
		t.Fatalf("the second start has another identity: %v", err)
	}
	store := filepath.Join(dir, Directory)
	if info, err := os.Stat(store); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	entries, err := os.ReadDir(store)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	r := again.Renewal()
	if r.Expire(now) || r.Next(now).After(RenewAt(again.Chain[0])) {
		t.Errorf("renewed at %v", r.Next(now))
	}
	r.SetNames(MakeNames("other", nil))
	if !r.Expire(now) {
		t.Error("a change of names while it was off is not followed")
	}
	// Renewal keeps the key.
	if err := again.Renew(again.Names(), now.Add(day)); err != nil || again.KeyHash() != h.KeyHash() || again.Chain[0].Equal(h.Chain[0]) {
		t.Errorf("renewed: %v", err)
	}
	moved, err := SetAside(dir, now)
	if err != nil || moved == "" {
		t.Error(moved, err)
	}
	if fresh, _ := openHub(t, dir, false); fresh.Authority.RootHash() == h.Authority.RootHash() {
		t.Error("the same authority after identity new")
	}
}

// A hub that starts in 1970 issues nothing that ends in 1990.
func TestHubAt1970(t *testing.T) {
	defer func(before string) { buildDate = before }(buildDate)
	buildDate = "2026-06-01T00:00:00Z"
	dir := t.TempDir()
	o := HubOptions{Dominion: home, Now: time.Unix(60, 0), Names: MakeNames("pi", nil)}
	h := must[*Hub](t)(OpenHub(dir, o))
	for _, c := range []*x509.Certificate{h.Authority.Root, h.Chain[0], h.Browser.Root, h.Browser.Leaf} {
		if c.NotAfter.Before(BuildDate().Add(300 * day)) {
			t.Errorf("%s ends %v", c.Subject, c.NotAfter)
		}
	}
	// With the right clock once, then in 1970 again: it counts from the newest.
	key := newKey(t)
	if _, err := h.Issue(Subject{Use: DomainUse, Name: "pi"}, &key.PublicKey, 0, now.AddDate(2, 0, 0)); err != nil {
		t.Fatal(err)
	}
	h = must[*Hub](t)(OpenHub(dir, o))
	c := must[[]*x509.Certificate](t)(h.Issue(Subject{Use: DomainUse, Name: "pi"}, &key.PublicKey, 0, o.Now))
	if want := now.AddDate(2, 0, 0).Add(DefaultLifetime); !c[0].NotAfter.Equal(want) {
		t.Errorf("ends %v, want %v", c[0].NotAfter, want)
	}
}

// A key that cannot be read is never replaced while others know it.
func TestLostKeys(t *testing.T) {
	for _, file := range []string{authorityKeyFile, hubKeyFile} {
		for what, spoil := range map[string]func(path string) error{
			"missing": os.Remove,
			"empty":   func(p string) error { return os.WriteFile(p, nil, 0o600) },
			"garbage": func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
			"a directory": func(p string) error {
				return errors.Join(os.Remove(p), os.Mkdir(p, 0o700))
			},
		} {
			dir := t.TempDir()
			openHub(t, dir, false)
			path := filepath.Join(dir, Directory, file)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(path)
			_, err := openHub(t, dir, true)
			var lost *KeyError
			if !errors.As(err, &lost) || lost.Path != path || !strings.HasSuffix(err.Error(), "restore identity/ from a backup, or dominion identity new") {
				t.Errorf("%s is %s: %v", file, what, err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Errorf("%s was replaced", file)
			}
			// Not even before anybody knows it.
			if what != "missing" {
				if _, err := OpenHub(dir, HubOptions{Dominion: home, Now: now}); !errors.As(err, &lost) {
					t.Errorf("%s is %s, of a new hub: %v", file, what, err)
				}
			}
		}
	}
	dir := t.TempDir()
	d := must[*Domain](t)(OpenDomain(dir, false))
	if again := must[*Domain](t)(OpenDomain(dir, false)); !again.Key.Equal(d.Key) || again.Adopted() {
		t.Error("another key")
	}
	if err := os.Remove(filepath.Join(dir, Directory, domainKeyFile)); err != nil {
		t.Fatal(err)
	}
	var lost *KeyError
	if _, err := OpenDomain(dir, true); !errors.As(err, &lost) || !strings.Contains(err.Error(), "domain reset") {
		t.Errorf("%v", err)
	}
}

// A power cut between any two files of the first start.
func TestPowerCutAtTheFirstStart(t *testing.T) {
	whole := t.TempDir()
	h, _ := openHub(t, whole, false)
	for _, have := range [][]string{{}, {authorityKeyFile}, {authorityKeyFile, authorityCertFile}, {authorityKeyFile, authorityCertFile, hubKeyFile}, {authorityKeyFile, authorityCertFile, hubKeyFile, browserRootKeyFile, browserKeyFile}, {authorityKeyFile, hubKeyFile}} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, Directory), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range have {
			b := must[[]byte](t)(os.ReadFile(filepath.Join(whole, Directory, name)))
			if err := os.WriteFile(filepath.Join(dir, Directory, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		again, _ := openHub(t, dir, false)
		if len(have) > 0 && again.Authority.RootHash() != h.Authority.RootHash() {
			t.Errorf("%v: another authority", have)
		}
		// The former root verifies what the authority signs after its certificate was made anew.
		if len(have) > 0 {
			v := Verifier{Dominion: home, Roots: []*x509.Certificate{h.Authority.Root}}
			if _, err := v.Verify(again.Chain, now, HubUse); err != nil {
				t.Errorf("%v: %v", have, err)
			}
		}
	}
}
