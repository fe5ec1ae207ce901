package keys

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

const dominion = "7d0f6d0e-7a51-4a5c-9d4f-0f4f6b1c2d3e"

// machine is a machine whose addresses change.
type machine struct {
	mu    sync.Mutex
	addrs []netip.Addr
}

func (m *machine) names() (identity.Names, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return identity.MakeNames("hub", m.addrs), nil
}

func (m *machine) set(addrs ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs = nil
	for _, a := range addrs {
		m.addrs = append(m.addrs, netip.MustParseAddr(a))
	}
}

func options(dir string, m *machine) Options {
	return Options{DataDir: dir, Dominion: dominion, Name: "home", Lifetime: time.Hour, Names: m.names, Log: slog.New(slog.DiscardHandler)}
}

func open(t *testing.T, o Options) *Keys {
	t.Helper()
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The certificate is renewed after two thirds of its lifetime, with the same key, and at
// once when an address is new, but not twice within ten minutes.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(30 * 365 * 24 * time.Hour) // no certificate is issued before 2020
		m := new(machine)
		k := open(t, options(dir, m))
		key, first := k.Published().Key, k.Expires()
		ctx, cancel := context.WithCancel(t.Context())
		var renewals atomic.Int32
		var running sync.WaitGroup
		running.Go(func() { k.Run(ctx, func(time.Time) { renewals.Add(1) }) })
		defer running.Wait()
		defer cancel()
		pass := func(d time.Duration) int32 {
			time.Sleep(d)
			synctest.Wait()
			return renewals.Load()
		}
		if n := pass(39 * time.Minute); n != 0 {
			t.Fatalf("renewed %d times within 39 minutes of an hour", n)
		}
		n := pass(2 * time.Minute)
		if n != 1 || !k.Expires().After(first) || k.Published().Key != key {
			t.Fatalf("after 41 minutes of an hour: %d renewals, expires %v, before %v", n, k.Expires(), first)
		}
		m.set("192.168.1.7")
		time.Sleep(2 * time.Minute)
		m.set("192.168.1.8")
		n = pass(5 * time.Minute)
		if leaf := k.ForClients().Certificate("").Leaf; n != 2 || !hasAddress(leaf, "192.168.1.7") {
			t.Fatalf("with a new address: %d renewals, %v", n, leaf.IPAddresses)
		}
		n = pass(8 * time.Minute)
		if leaf := k.ForClients().Certificate("").Leaf; n != 3 || !hasAddress(leaf, "192.168.1.8") {
			t.Fatalf("with another one, after ten minutes: %d renewals, %v", n, leaf.IPAddresses)
		}
		if leaf := k.ForBrowsers().Certificate("").Leaf; !hasAddress(leaf, "192.168.1.8") {
			t.Errorf("the leaf of browsers names %v", leaf.IPAddresses)
		}
	})
}

func hasAddress(c *x509.Certificate, address string) bool {
	return slices.ContainsFunc(c.IPAddresses, func(ip net.IP) bool {
		a, _ := netip.AddrFromSlice(ip)
		return a.Unmap().String() == address
	})
}

// A key that is lost is not replaced.
func TestLostKey(t *testing.T) {
	dir := t.TempDir()
	o := options(dir, new(machine))
	open(t, o)
	o.Known = true
	if k := open(t, o); k.Authority() == nil {
		t.Error("no authority")
	}
	for _, file := range []string{"authority.key", "hub.key"} {
		path := filepath.Join(dir, identity.Directory, file)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		var lost *identity.KeyError
		if _, err := Open(o); !errors.As(err, &lost) {
			t.Errorf("without %s: %v", file, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was made anew", file)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
}

// issue returns a certificate of the dominion.
func issue(t *testing.T, k *Keys, use identity.Use, name string) ([]*x509.Certificate, string) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	if err := k.With(func(h *identity.Hub) (err error) {
		chain, err = h.Issue(identity.Subject{Use: use, Name: name}, &key.PublicKey, 0, time.Now())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	hash, err := identity.HashKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return chain, hash
}

// A domain is its name as long as it is adopted with that very key; a user is its name;
// what another dominion issued, and the hub's own certificate, are refused.
func TestIdentify(t *testing.T) {
	k, other := open(t, options(t.TempDir(), new(machine))), open(t, options(t.TempDir(), new(machine)))
	const id = "0b8f1f0e-7a51-4a5c-9d4f-0f4f6b1c2d3e"
	chain, key := issue(t, k, identity.DomainUse, id)
	identify := func(chain []*x509.Certificate) (string, error) {
		who, issued, err := k.ForClients().Identify(chain)
		if err == nil && !issued {
			return "not of the dominion", nil
		}
		return who.Use + " " + who.Name, err
	}
	if who, err := identify(chain); err == nil {
		t.Errorf("a domain that is not adopted is %s", who)
	}
	k.SetDomains(map[string]Domain{id: {Name: "kitchen", Key: key}})
	if who, err := identify(chain); err != nil || who != "domain kitchen" {
		t.Errorf("the domain is %q, %v", who, err)
	}
	if row := k.Row(key); len(row) != 1 || row[0].Name != id || row[0].Domain != "kitchen" {
		t.Errorf("its row is %+v", row)
	}
	k.SetDomains(map[string]Domain{id: {Name: "kitchen", Key: "another"}})
	if row := k.Row(key); len(row) != 1 || row[0].Domain != "" {
		t.Errorf("the row of a former key is %+v", row)
	}
	if who, err := identify(chain); err == nil {
		t.Errorf("a domain with another key is %s", who)
	}
	user, _ := issue(t, k, identity.UserUse, "ada")
	if who, err := identify(user); err != nil || who != "user ada" {
		t.Errorf("the user is %q, %v", who, err)
	}
	stranger, _ := issue(t, other, identity.UserUse, "ada")
	if who, err := identify(stranger); err == nil {
		t.Errorf("a user of another authority is %s", who)
	}
	if who, err := identify([]*x509.Certificate{k.ForClients().Certificate("").Leaf}); err == nil {
		t.Errorf("the hub's certificate is %s", who)
	}
	if who, err := identify([]*x509.Certificate{k.Authority()}); err != nil || who != "not of the dominion" {
		t.Errorf("a certificate without a use is %q, %v", who, err)
	}
}

// A client that trusts the authority verifies the hub by TLS, and gets a certificate for
// a key of its own.
func TestIssueForUser(t *testing.T) {
	k := open(t, options(t.TempDir(), new(machine)))
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := identity.NewRequest(key, "somebody else")
	if err != nil {
		t.Fatal(err)
	}
	issued, err := k.IssueForUser("ada", request, 24*time.Hour, time.Now())
	if err != nil || len(issued) != 1 || issued[0].Name != "ada" || issued[0].Use != "user" {
		t.Fatalf("%+v, %v", issued, err)
	}
	chain, err := identity.ParseCertificates([]byte(issued[0].Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if public, is := chain[0].PublicKey.(*ecdsa.PublicKey); !is || !public.Equal(&key.PublicKey) {
		t.Error("it is of another key")
	}
	if _, err := k.IssueForUser("ada", []byte("nonsense"), 0, time.Now()); err == nil {
		t.Error("a request that is none was signed")
	}
	found := false
	for _, c := range k.Issued() {
		found = found || c.Name == "ada" && c.Key == issued[0].Key
		if c.Certificate != "" {
			t.Error("the list has certificates")
		}
	}
	if !found {
		t.Errorf("it is not in the list: %+v", k.Issued())
	}
	roots := x509.NewCertPool()
	roots.AddCert(k.Authority())
	served := k.ForClients().Certificate("")
	if _, err := served.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "hub.local"}); err != nil {
		t.Errorf("the hub by its name: %v", err)
	}
}

// A domain's certificate is due by the hub's clock after two thirds of its lifetime, and no
// longer once there is a new one.
func TestRenewalDue(t *testing.T) {
	k := open(t, options(t.TempDir(), new(machine)))
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := identity.HashKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if k.RenewalDue("pi", now.Add(time.Hour)) {
		t.Error("there is no such domain")
	}
	k.SetDomains(map[string]Domain{"pi": {Name: "pi", Key: hash}})
	certify := func(at time.Time) {
		if _, err := k.Certify("pi", &key.PublicKey, at); err != nil {
			t.Fatal(err)
		}
	}
	certify(now)
	for after, due := range map[time.Duration]bool{0: false, 39 * time.Minute: false, 41 * time.Minute: true, 13 * 30 * 24 * time.Hour: true} {
		if is := k.RenewalDue("pi", now.Add(after)); is != due {
			t.Errorf("after %v of an hour: %v", after, is)
		}
	}
	certify(now.Add(41 * time.Minute))
	if k.RenewalDue("pi", now.Add(42*time.Minute)) {
		t.Error("it was renewed")
	}
}
