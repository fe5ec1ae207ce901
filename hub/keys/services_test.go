package keys

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

const (
	kitchenID = "0b8f1f0e-7a51-4a5c-9d4f-0f4f6b1c2d3e"
	atticID   = "1b8f1f0e-7a51-4a5c-9d4f-0f4f6b1c2d3e"
)

// publicKey makes a key, and returns its public key and the hash of that.
func publicKey(t *testing.T) (der []byte, hash string) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if der, err = identity.EncodePublicKey(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
	return der, identity.HashEncodedKey(der)
}

// certifyServices has certificates made for the services of one domain.
func certifyServices(t *testing.T, k *Keys, id, domain string, keys map[string][]byte) ServiceCertificates {
	t.Helper()
	all, err := k.CertifyServices([]ServiceKeys{{id, domain, keys}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func chainOf(t *testing.T, c ServiceCertificates, service string) []*x509.Certificate {
	t.Helper()
	chain, err := identity.ParseChain(c.Chains[service])
	if err != nil {
		t.Fatalf("%s: %v, refused %v", service, err, c.Refused)
	}
	return chain
}

// serviceHome is a hub with two domains, and one service of the kitchen.
func serviceHome(t *testing.T) (o Options, k *Keys, web []byte, identify func([]*x509.Certificate) (string, error)) {
	t.Helper()
	o = options(t.TempDir(), new(machine))
	k = open(t, o)
	k.SetDomains(map[string]Domain{kitchenID: {Name: "kitchen", Key: "k"}, atticID: {Name: "attic", Key: "a"}})
	web, _ = publicKey(t)
	return o, k, web, func(chain []*x509.Certificate) (string, error) {
		who, issued, err := k.ForClients().Identify(chain)
		if err == nil && !issued {
			return "not of the dominion", nil
		}
		return who.Use + " " + who.Name, err
	}
}

// The certificate of a service is accepted as long as its domain is adopted and has the name that
// it had: neither a renamed machine nor the one that gets its name is web.kitchen by it.
func TestServiceIsOfItsDomain(t *testing.T) {
	o, k, web, identify := serviceHome(t)
	chain := chainOf(t, certifyServices(t, k, kitchenID, "kitchen", map[string][]byte{"web": web}), "web")
	if who, err := identify(chain); err != nil || who != "service web.kitchen" {
		t.Errorf("it is %q, %v", who, err)
	}
	if i := slices.IndexFunc(k.Issued(), func(v topics.CertificateView) bool { return v.Use == "service" }); i < 0 || k.Issued()[i].Name != "web.kitchen" {
		t.Errorf("certificates: %+v", k.Issued())
	}
	k.SetDomains(map[string]Domain{atticID: {Name: "kitchen", Key: "a"}, kitchenID: {Name: "cellar", Key: "k"}})
	if who, err := identify(chain); err == nil {
		t.Errorf("of a renamed domain it is %s", who)
	}
	c := certifyServices(t, k, kitchenID, "cellar", map[string][]byte{"web": web})
	if who, err := identify(chainOf(t, c, "web")); err != nil || who != "service web.cellar" || c.Renewed != nil {
		t.Errorf("it is %q, %v, renewed %v", who, err, c.Renewed)
	}
	k.SetDomains(map[string]Domain{kitchenID: {Name: "kitchen", Key: "k"}})
	if who, err := identify(chain); err == nil {
		t.Errorf("by a former certificate it is %s", who)
	}
	c = certifyServices(t, k, kitchenID, "kitchen", map[string][]byte{"web": web})
	chain = chainOf(t, c, "web")
	if c = certifyServices(t, k, kitchenID, "kitchen", map[string][]byte{"web": web}); !slices.Equal(c.Renewed, []string{"web"}) {
		t.Errorf("renewed %v", c.Renewed)
	}
	k.SetDomains(nil)
	if who, err := identify(chain); err == nil {
		t.Errorf("of a domain that is not adopted it is %s", who)
	}

	// A hub that was restored from a backup has no record of it: nobody could revoke it. The domain
	// gets another one of the same key, which is recorded.
	for _, name := range []string{"issued.json", "issued.json" + atomicfile.Previous} {
		if err := os.Remove(filepath.Join(o.DataDir, identity.Directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	fresh := open(t, o)
	fresh.SetDomains(map[string]Domain{kitchenID: {Name: "kitchen", Key: "k"}})
	if who, _, err := fresh.ForClients().Identify(chain); err == nil {
		t.Errorf("without the record it is %v", who)
	}
	hash := identity.HashEncodedKey(web)
	if !fresh.Unrecorded(kitchenID, []string{hash}) || fresh.Unrecorded(kitchenID, nil) {
		t.Error("the domain is not asked to renew, or without a reason")
	}
	chain = chainOf(t, certifyServices(t, fresh, kitchenID, "kitchen", map[string][]byte{"web": web}), "web")
	if who, _, err := fresh.ForClients().Identify(chain); err != nil || who.Name != "web.kitchen" {
		t.Errorf("with the record it is %v, %v", who, err)
	}
	if fresh.Unrecorded(kitchenID, []string{hash}) || !fresh.Unrecorded(atticID, []string{hash}) {
		t.Error("a record counts for another domain, or not for its own")
	}
	revoke(t, fresh, hash)
	if fresh.Unrecorded(kitchenID, []string{hash}) {
		t.Error("a revoked key is renewed")
	}
}

// A key has one owner; what is refused does not keep the others from their certificates.
func TestKeysThatGetNoCertificate(t *testing.T) {
	_, k, web, _ := serviceHome(t)
	certifyServices(t, k, kitchenID, "kitchen", map[string][]byte{"web": web})
	user, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := identity.NewRequest(user, "ada")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.IssueForUser("ada", request, 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	ofUser, err := identity.EncodePublicKey(&user.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	ofDomain, hash := publicKey(t)
	k.SetDomains(map[string]Domain{kitchenID: {Name: "kitchen", Key: hash}, atticID: {Name: "attic", Key: "a"}})
	ofHub, err := identity.EncodePublicKey(&k.hub.Key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	ofAuthority := k.Authority().RawSubjectPublicKeyInfo
	revoked, hash := publicKey(t)
	revoke(t, k, hash)
	twice, _ := publicKey(t)
	good, _ := publicKey(t)
	c := certifyServices(t, k, atticID, "attic", map[string][]byte{
		"kitchens": web, "user": ofUser, "domain": ofDomain, "hub": ofHub, "authority": ofAuthority, "revoked": revoked,
		"nonsense": []byte("x"), "a": twice, "b": twice, "good": good,
	})
	if len(c.Chains) != 2 || c.Chains["good"] == nil || c.Chains["a"] == nil || len(c.Refused) != 8 {
		t.Errorf("issued %d, refused %v", len(c.Chains), c.Refused)
	}
	if all := fmt.Sprint(c.Refused); !strings.Contains(all, "was revoked") || !strings.Contains(all, "somebody else") {
		t.Errorf("refused: %s", all)
	}
}

// A domain that is revoked takes the keys of its services along, in one list, and no others.
func TestRevokedDomainTakesItsServicesAlong(t *testing.T) {
	_, k, web, identify := serviceHome(t)
	bell, bellHash := publicKey(t)
	_, domainKey := publicKey(t)
	chain := chainOf(t, certifyServices(t, k, kitchenID, "kitchen", map[string][]byte{"web": web}), "web")
	certifyServices(t, k, atticID, "attic", map[string][]byte{"bell": bell})
	before := listed(t, k).Number
	names, err := k.RevokeDomain(kitchenID, "kitchen", domainKey, time.Now())
	if err != nil || !slices.Equal(names, []string{"web.kitchen"}) {
		t.Fatalf("%v, %v", names, err)
	}
	l := listed(t, k)
	if l.Number != before+1 || len(l.Revoked) != 2 || !l.IsRevoked(domainKey) || !l.IsRevoked(identity.HashEncodedKey(web)) || l.IsRevoked(bellHash) {
		t.Errorf("the list is %v", l)
	}
	if who, err := identify(chain); err == nil {
		t.Errorf("a revoked service is %s", who)
	}
	if names, err := k.RevokeDomain(kitchenID, "kitchen", domainKey, time.Now()); err != nil || names != nil || listed(t, k).Number != before+1 {
		t.Errorf("again: %v, %v", names, err)
	}
}

// A domain does not fill the list of what was issued.
func TestServicesOfADomainAreBounded(t *testing.T) {
	_, k, _, _ := serviceHome(t)
	keys := make(map[string][]byte)
	for n := range maxServiceKeys + 2 {
		keys[fmt.Sprintf("s%04d", n)], _ = publicKey(t)
	}
	c := certifyServices(t, k, kitchenID, "kitchen", keys)
	if len(c.Chains) != maxServiceKeys || len(c.Refused) != 2 {
		t.Fatalf("issued %d, refused %d", len(c.Chains), len(c.Refused))
	}
	if c = certifyServices(t, k, kitchenID, "kitchen", map[string][]byte{"s0000": keys["s0000"]}); len(c.Chains) != 1 {
		t.Errorf("not renewed: %v", c.Refused)
	}
}
