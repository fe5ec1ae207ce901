package keys

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

// successor is what replaces the authority and the hub's key.
type successor struct {
	root *x509.Certificate
	// key is the hash of the authority's key, hubKey that of the hub's.
	key, hubKey string
}

// Authority describes the authority.
type Authority struct {
	// Key is the hash of its key, by which domains tell which one they have pinned.
	Key     string
	Expires time.Time
	// Offline reports that an intermediate signs in its place.
	Offline bool
	// Next is the hash of the key of the one that replaces it; "": none does.
	Next string
}

// DescribeAuthority describes the authority.
func (k *Keys) DescribeAuthority() Authority {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := Authority{
		Key: identity.HashEncodedKey(k.hub.Authority.Root.RawSubjectPublicKeyInfo), Expires: k.hub.Authority.Root.NotAfter,
		Offline: k.hub.Authority.Offline(),
	}
	if k.successor != nil {
		a.Next = k.successor.key
	}
	return a
}

// roots returns the authorities that may have signed the stored key list.
func (k *Keys) roots() []*x509.Certificate {
	if k.successor == nil {
		return []*x509.Certificate{k.hub.Authority.Root}
	}
	return []*x509.Certificate{k.successor.root, k.hub.Authority.Root}
}

// openSuccessor reads what replaces the authority and the hub's key, if something does. The caller
// holds mu, or is the only one.
func (k *Keys) openSuccessor() error {
	k.successor = nil
	if !k.hub.Rotating() {
		return nil
	}
	return k.makeSuccessor(time.Now())
}

func (k *Keys) makeSuccessor(now time.Time) error {
	a, err := k.hub.NextAuthority(now)
	if err != nil {
		return err
	}
	hubKey, err := k.hub.NextKey()
	if err != nil {
		return err
	}
	k.successor = &successor{root: a.Root, key: identity.HashEncodedKey(a.Root.RawSubjectPublicKeyInfo), hubKey: hubKey}
	return nil
}

// BeginRotation makes the next authority and the hub's next key, and puts both into the key
// list. What is there already stays.
func (k *Keys) BeginRotation(now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.makeSuccessor(now); err != nil {
		return err
	}
	if list, changed := k.withOwn(k.list); changed {
		return k.putList(list)
	}
	return nil
}

// UseNext ends the present authority and the hub's present key. With compromised they are
// revoked, and with them all that was issued to users and services. Orders are signed by the
// former key until SignByNew.
func (k *Keys) UseNext(compromised bool, now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.successor == nil {
		return errors.New("cannot replace the authority: there is no next one")
	}
	a, err := k.hub.NextAuthority(now)
	if err != nil {
		return err
	}
	list := k.list.WithoutHub(k.hub.KeyHash())
	if compromised {
		former := identity.HashEncodedKey(k.hub.Authority.Root.RawSubjectPublicKeyInfo)
		for _, r := range []identity.RevokedKey{
			{Key: k.hub.KeyHash(), Use: identity.HubUse, Name: k.options.Name, At: now.Unix()},
			{Key: former, Use: identity.AuthorityUse, At: now.Unix()},
		} {
			list = list.Revoke(r, identity.Clock(now))
		}
	}
	list.Next, list.Number = nil, k.list.Number+1
	text, err := list.Sign(a)
	if err != nil {
		return err
	}
	// From here on it is done, also after a power cut: see openList.
	if err := k.writeList(text); err != nil {
		return err
	}
	if err := k.useNext(list, text); err != nil {
		return err
	}
	k.renewal = k.hub.Renewal()
	k.serve()
	return nil
}

// useNext uses the next authority, which signed the stored list. The caller holds mu, or is
// the only one.
func (k *Keys) useNext(list identity.KeyList, text []byte) error {
	compromised := false
	for _, r := range list.Revoked {
		compromised = compromised || r.Use == identity.AuthorityUse && r.Key == identity.HashEncodedKey(k.hub.Authority.Root.RawSubjectPublicKeyInfo)
	}
	if err := k.hub.UseNextAuthority(compromised, time.Now()); err != nil {
		return err
	}
	k.successor, k.list, k.signedList = nil, list, text
	return nil
}

// SignByNew has orders signed by the hub's new key. The hub's loop calls it between two
// orders: an order names the key that it is signed with.
func (k *Keys) SignByNew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sign()
}

// ExportAuthority returns the authority's key and certificate as PEM. Nobody may log it.
func (k *Keys) ExportAuthority() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hub.ExportAuthority()
}

// TakeOffline leaves an intermediate here in the place of the authority. One that was here
// before, while the authority's key was away, is revoked.
func (k *Keys) TakeOffline(now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.hub.ExportAuthority(); err != nil {
		return err
	}
	if former := k.hub.FormerIntermediate(); former != "" && !k.list.IsRevoked(former) {
		r := identity.RevokedKey{Key: former, Use: identity.AuthorityUse, Name: "intermediate", At: now.Unix()}
		if err := k.putList(k.list.Revoke(r, identity.Clock(now))); err != nil {
			return err
		}
	}
	if err := k.hub.TakeOffline(now); err != nil {
		return err
	}
	k.renewal = k.hub.Renewal()
	k.serve()
	return nil
}
