package keys

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
)

// Offering returns what an offer to adopt is signed with.
func (k *Keys) Offering() adoption.HubOptions {
	k.mu.Lock()
	defer k.mu.Unlock()
	return adoption.HubOptions{
		Dominion: k.options.Dominion, Name: k.options.Name,
		Root: k.hub.Authority.Root, Key: k.hub.Key, Chain: k.hub.Chain,
	}
}

// Certify issues the certificate of a domain's key. It writes a file. A key of a user is none of
// a domain: the list of what was issued has one entry of a key, by which it is revoked.
func (k *Keys) Certify(id string, key *ecdsa.PublicKey, now time.Time) ([]*x509.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	hash, err := identity.HashKey(key)
	if err != nil {
		return nil, err
	}
	if before, issued := k.hub.Ledger.Find(hash); issued && before.Use != identity.DomainUse {
		return nil, fmt.Errorf("cannot issue a certificate: the key %s is of the %s %.80s: run `domain reset` on the machine", identity.Label(hash), before.Use, before.Name)
	}
	return k.hub.Issue(identity.Subject{Use: identity.DomainUse, Name: id}, key, 0, now)
}

// RenewalDue reports whether the certificate of a domain has ended or is to be renewed, by this
// machine's clock: that of the domain may be wrong. It may wait for the disk.
func (k *Keys) RenewalDue(id string, now time.Time) bool {
	d, adopted := k.domain(id)
	if !adopted {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	i, issued := k.hub.Ledger.Find(d.Key)
	return issued && !identity.Clock(now).Before(i.RenewAt())
}

// IssuedTo reports whether the dominion has issued a certificate to a domain, by its id and the hash of its key, that
// counts: its end has not come, and its key is not revoked. listed reports whether this hub remembers it.
func (k *Keys) IssuedTo(id, key string, encoded [][]byte, now time.Time) (issued, listed bool) {
	chain, err := identity.ParseChain(encoded)
	if err != nil {
		return false, false
	}
	k.mu.Lock()
	list, ledger := k.list, k.hub.Ledger // what they hold is never changed
	verifier := k.hub.Verifier(&list, nil)
	k.mu.Unlock()
	peer, err := verifier.Verify(chain, now, identity.DomainUse)
	if err != nil || peer.Subject.Name != id || peer.KeyHash != key {
		return false, false
	}
	_, listed = ledger.Find(key)
	return true, listed
}

// RootHash returns SHA-256 of the authority's public key, which a token names.
func (k *Keys) RootHash() [sha256.Size]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hub.Authority.RootHash()
}

// WordKey returns the secret by which the hub knows the words that it gave to domains.
func (k *Keys) WordKey() adoption.WordKey { return k.wordKey }

// wordKeyFile is the file of WordKey in the directory of keys.
const wordKeyFile = "words.key"

// openWordKey reads the secret of the words, and makes it at the first start. One that was
// lost is made anew: the hub then knows only the words that it stores.
func openWordKey(s *identity.Store) (adoption.WordKey, error) {
	const size = 32
	return s.Secret(wordKeyFile, false, func(key []byte) error {
		if len(key) != size {
			return fmt.Errorf("it has %d bytes, not %d", len(key), size)
		}
		return nil
	}, func() ([]byte, error) {
		key := make([]byte, size)
		_, _ = rand.Read(key) // never fails
		return key, nil
	})
}

// Names returns the host names and addresses that the hub's certificate has. It does not
// wait for anything.
func (k *Keys) Names() (hosts, addresses []string) {
	leaf := k.served.Load().Leaf
	for _, ip := range leaf.IPAddresses {
		if !ip.IsLoopback() {
			addresses = append(addresses, ip.String())
		}
	}
	for _, host := range leaf.DNSNames {
		if host != "localhost" {
			hosts = append(hosts, host)
		}
	}
	return hosts, addresses
}
