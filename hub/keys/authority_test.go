package keys

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

// block makes every write of a file fail, as a power cut before it does, until the returned
// function is called.
func block(t *testing.T, path string) func() {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path+".tmp", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(path + ".tmp"); err != nil {
			t.Fatal(err)
		}
	}
}

// domain returns what a domain has pinned that has taken all key lists so far.
func (k *Keys) pinned(t *testing.T, before identity.Trust) identity.Trust {
	t.Helper()
	if before.Authority == nil {
		before = identity.Trust{Dominion: dominion, Authority: k.Authority().Raw}
	}
	after, _, err := before.TakeKeyList(k.SignedKeyList())
	if err != nil {
		t.Fatal(err)
	}
	return after
}

// wantHub fails unless a domain verifies the hub's certificate and its orders.
func wantHub(t *testing.T, k *Keys, trust identity.Trust) {
	t.Helper()
	v, err := trust.Verifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.VerifyPublished(k.Published(), time.Now())
	if err != nil || p.KeyHash != k.KeyHash() {
		t.Errorf("the hub: %v, orders are signed by %.8s", err, k.KeyHash())
	}
}

// A change of the authority is whole after a power cut at each step: before the key list of the next
// one is stored, all is as it was, and from then on the next one is used, whatever else
// was written. Nothing that was revoked comes back.
func TestRotationSurvivesPowerCuts(t *testing.T) {
	for _, compromised := range []bool{false, true} {
		for _, file := range []string{"", "keylist.json", "authority-former.crt", "authority-cross.crt", "issued.json", "hub.key", "authority.key", "authority.crt", "hub.crt"} {
			if compromised && (file == "authority-former.crt" || file == "authority-cross.crt") {
				continue // nothing of it remains
			}
			if !compromised && file == "issued.json" {
				continue // it is written last, with the hub's certificate
			}
			t.Run(fmt.Sprintf("%s compromised %v", file, compromised), func(t *testing.T) {
				dir := t.TempDir()
				k := open(t, options(dir, new(machine)))
				old, oldKey := k.DescribeAuthority(), k.KeyHash()
				revoked := strings.Repeat("ab", 32)
				if _, _, err := k.Revoke(revoked, time.Now()); err != nil {
					t.Fatal(err)
				}
				if err := k.BeginRotation(time.Now()); err != nil {
					t.Fatal(err)
				}
				trust := k.pinned(t, identity.Trust{})
				next := k.DescribeAuthority().Next
				if next == "" || trust.Newest() != next {
					t.Fatal("the next authority is not in the list")
				}
				wantHub(t, k, trust)
				if file != "" {
					clear := block(t, filepath.Join(dir, identity.Directory, file))
					if err := k.UseNext(compromised, time.Now()); err == nil {
						t.Fatal("nothing failed")
					}
					clear()
					k = open(t, options(dir, new(machine))) // the power is back
				}
				if file == "keylist.json" {
					if k.DescribeAuthority() != (Authority{Key: old.Key, Expires: old.Expires, Next: next}) || k.KeyHash() != oldKey {
						t.Fatalf("not as it was: %+v", k.DescribeAuthority())
					}
					wantHub(t, k, k.pinned(t, trust))
				}
				if file == "" || file == "keylist.json" {
					if err := k.UseNext(compromised, time.Now()); err != nil {
						t.Fatal(err)
					}
					k.SignByNew()
				}
				if a := k.DescribeAuthority(); a.Key != next || a.Next != "" || k.KeyHash() == oldKey {
					t.Fatalf("the next one is not used: %+v", a)
				}
				list := k.KeyList()
				if !list.IsRevoked(revoked) || list.HasHub(oldKey) || list.IsRevoked(oldKey) != compromised || list.IsRevoked(old.Key) != compromised {
					t.Errorf("the list is %+v", list)
				}
				trust = k.pinned(t, trust)
				wantHub(t, k, trust)
				if trust.Next != nil || trust.Newest() != next {
					t.Error("the former authority is still pinned")
				}
				left, err := filepath.Glob(filepath.Join(dir, identity.Directory, "*next*"))
				if err != nil || len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				again := open(t, options(dir, new(machine)))
				if string(again.SignedKeyList()) != string(k.SignedKeyList()) || again.KeyHash() != k.KeyHash() {
					t.Error("another hub after a restart")
				}
			})
		}
	}
}

// After a change of the authority a domain comes with its former certificate, and gets a new one.
// The certificates of users stay, unless the former authority was compromised.
func TestCertificatesAfterRotation(t *testing.T) {
	for _, compromised := range []bool{false, true} {
		k := open(t, options(t.TempDir(), new(machine)))
		domainKey, userKey := newKey(t), newKey(t)
		hash, err := identity.HashKey(&domainKey.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		k.SetDomains(map[string]Domain{"id-pi": {Name: "pi", Key: hash}})
		now := time.Now()
		domain, err := k.Certify("id-pi", &domainKey.PublicKey, now)
		if err != nil {
			t.Fatal(err)
		}
		var user []*x509.Certificate
		err = k.With(func(h *identity.Hub) (err error) {
			user, err = h.Issue(identity.Subject{Use: identity.UserUse, Name: "tv"}, &userKey.PublicKey, 0, now)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := k.BeginRotation(now); err != nil {
			t.Fatal(err)
		}
		if err := k.UseNext(compromised, now); err != nil {
			t.Fatal(err)
		}
		if who, is, err := k.ForClients().Identify(domain); err != nil || !is || who.Name != "pi" {
			t.Errorf("the domain: %v", err)
		}
		if _, _, err := k.ForClients().Identify(user); (err != nil) != compromised {
			t.Errorf("compromised %v, the user: %v", compromised, err)
		}
		k.SetDomains(map[string]Domain{})
		if _, _, err := k.ForClients().Identify(domain); err == nil {
			t.Error("a domain that was forgotten")
		}
	}
}

// The authority's key is removed once it was exported; an intermediate that was here before is
// revoked when the next one takes its place.
func TestAuthorityOffline(t *testing.T) {
	dir := t.TempDir()
	k := open(t, options(dir, new(machine)))
	trust := k.pinned(t, identity.Trust{})
	text, err := k.ExportAuthority()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.TakeOffline(time.Now()); err != nil {
		t.Fatal(err)
	}
	k = open(t, options(dir, new(machine)))
	if !k.DescribeAuthority().Offline {
		t.Fatal("not offline")
	}
	if _, _, err := k.Revoke(strings.Repeat("ab", 32), time.Now()); err != nil {
		t.Fatal(err)
	}
	if trust = k.pinned(t, trust); trust.Next != nil {
		t.Error("domains notice it")
	}
	wantHub(t, k, trust)
	if err := k.BeginRotation(time.Now()); err == nil || k.DescribeAuthority().Next != "" {
		t.Errorf("an intermediate replaced the authority: %v", err)
	}
	stolen := k.SignedKeyList()
	if err := os.WriteFile(filepath.Join(dir, identity.Directory, "authority.key"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	k = open(t, options(dir, new(machine)))
	if k.DescribeAuthority().Offline {
		t.Fatal("the key that was put back does not sign")
	}
	if err := k.TakeOffline(time.Now()); err != nil {
		t.Fatal(err)
	}
	trust = k.pinned(t, trust)
	wantHub(t, k, trust)
	if _, _, err := trust.TakeKeyList(stolen); err == nil {
		t.Error("a domain takes a list of the former intermediate")
	}
	if _, err := k.TakeKeyList(stolen, time.Now()); err == nil {
		t.Error("the hub takes a list of the former intermediate")
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
