package keys

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// keyListFile is the file of the key list in data_dir/identity: the message of hub/keys
// as the authority signed it.
const keyListFile = "keylist.json"

// openList reads the key list, and makes the first one. The hub's own key is in it unless
// it was revoked. One that cannot be read is replaced: a newer one, which the domains or
// the broker have, is taken over when it comes.
func (k *Keys) openList() error {
	text, found, err := k.hub.Store().Read(keyListFile)
	if err != nil {
		return err
	}
	list := identity.KeyList{Dominion: k.options.Dominion}
	if err := k.openSuccessor(); err != nil {
		return err
	}
	if found {
		stored, root, err := identity.VerifyKeyList(text, k.options.Dominion, k.roots()...)
		if err == nil && k.successor != nil && root.Equal(k.successor.root) {
			if err := k.useNext(stored, text); err != nil {
				return err
			}
		}
		if err != nil {
			k.options.Log.Error("the key list is made anew: what it revoked must be revoked again unless a domain shows it", "file", k.hub.Store().Path(keyListFile), "error", err)
			found = false
		} else {
			list, k.signedList = stored, text
		}
	}
	k.list = list
	if next, changed := k.withOwn(list); changed {
		return k.putList(next)
	}
	return nil
}

// withOwn returns a list in which the hub's key counts, and what will replace key and authority,
// and whether it is another one. A key that was revoked does not come back.
func (k *Keys) withOwn(l identity.KeyList) (identity.KeyList, bool) {
	number := l.Number
	if own := k.hub.KeyHash(); !l.HasHub(own) && !l.IsRevoked(own) {
		l = l.WithHub(identity.HubKey{Key: own, Name: k.options.Name})
	}
	var next []byte
	if k.successor != nil {
		next = k.successor.root.Raw
		if !l.HasHub(k.successor.hubKey) {
			l = l.WithHub(identity.HubKey{Key: k.successor.hubKey, Name: k.options.Name})
		}
	}
	if !bytes.Equal(l.Next, next) {
		l.Next, l.Number = next, l.Number+1
	}
	changed := l.Number != number
	if changed {
		l.Number = number + 1
	}
	return l, changed
}

// putList signs and stores a list before it is used. The caller holds mu, or is the only
// one.
func (k *Keys) putList(l identity.KeyList) error {
	text, err := l.Sign(k.hub.Authority)
	if err != nil {
		return err
	}
	return k.storeList(l, text)
}

// storeList stores a list that is signed, and uses it. The caller holds mu, or is the only
// one.
func (k *Keys) storeList(l identity.KeyList, text []byte) error {
	if err := k.writeList(text); err != nil {
		return err
	}
	k.list, k.signedList = l, text
	return nil
}

// writeList stores the message of a list.
func (k *Keys) writeList(text []byte) error {
	if err := atomicfile.Write(k.hub.Store().Path(keyListFile), text, 0o600); err != nil {
		return fmt.Errorf("cannot store the key list: %w", err)
	}
	return nil
}

// SignedKeyList returns the payload of hub/keys. It must not be changed.
func (k *Keys) SignedKeyList() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.signedList
}

// KeyList returns the key list. What it holds must not be changed.
func (k *Keys) KeyList() identity.KeyList {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list
}

// IsRevoked reports whether a key is not accepted any more.
func (k *Keys) IsRevoked(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list.IsRevoked(key)
}

// errOwnKey refuses to revoke the hub's own key.
var errOwnKey = errors.New("this is the key of the hub itself, which signs all that its domains obey: `dominionctl authority rotate` replaces it, with --compromised at once")

// Revoke revokes the key that a person names, by its hash or its label, and returns it as
// it stands in the list. again reports that it was revoked before.
func (k *Keys) Revoke(name string, now time.Time) (r identity.RevokedKey, again bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, err = k.find(name)
	if err != nil {
		return r, false, fmt.Errorf("cannot revoke a key: %w", err)
	}
	if k.list.IsRevoked(r.Key) {
		return r, true, nil
	}
	return r, false, k.revoke(now, r)
}

// RevokeUser revokes the keys of all certificates of a user, and returns their number.
func (k *Keys) RevokeUser(user string, now time.Time) (int, error) {
	return k.revokeAll(identity.UserUse, user, now)
}

// RevokeDomain revokes a key of a domain, whose id and name are given, and those of its services, whose
// names it returns.
func (k *Keys) RevokeDomain(id, name, key string, now time.Time) (services []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.hub.RecordName(key, name); err != nil {
		k.options.Log.Warn("the list of certificates does not name a domain whose key is revoked", "domain", name, "error", err)
	}
	all, services := k.revokedServices(id)
	if !k.list.IsRevoked(key) {
		r, err := k.find(key)
		if err != nil {
			return nil, err
		}
		r.Use, r.Name = identity.DomainUse, id
		all = append(all, r)
	}
	if len(all) == 0 {
		return services, nil
	}
	return services, k.revoke(now, all...)
}

// revokeAll revokes the keys of all certificates of a use and name.
func (k *Keys) revokeAll(use identity.Use, name string, now time.Time) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []identity.RevokedKey
	for _, i := range k.hub.Ledger.Issues {
		if i.Use == use && i.Name == name && !k.list.IsRevoked(i.Key) {
			all = append(all, revocation(i))
		}
	}
	if len(all) == 0 {
		return 0, nil
	}
	return len(all), k.revoke(now, all...)
}

// revoke stores the next list, in which keys are revoked. The caller holds mu.
func (k *Keys) revoke(now time.Time, all ...identity.RevokedKey) error {
	next := k.list
	for _, r := range all {
		r.At = now.Unix()
		next = next.Revoke(r, identity.Clock(now))
	}
	next.Number = k.list.Number + 1
	return k.putList(next)
}

// revocation returns the entry of the list for a key that was issued a certificate.
func revocation(i identity.Issue) identity.RevokedKey {
	return identity.RevokedKey{Key: i.Key, Use: i.Use, Name: i.Name, Expires: i.Expires.Unix()}
}

// labelDigits is how many digits of a hash identity.Label shows.
const labelDigits = 16

// find returns the key that a person names. A whole hash need not be of a key that was
// issued a certificate: the list of those may be lost. The caller holds mu.
func (k *Keys) find(name string) (identity.RevokedKey, error) {
	digits := strings.ToLower(strings.NewReplacer("-", "", " ", "", ":", "").Replace(name))
	if len(digits) != labelDigits && !identity.ValidKeyHash(digits) {
		return identity.RevokedKey{}, fmt.Errorf("%.80q is not a key: use the %d characters that `dominionctl certificates` shows, or all %d of its SHA-256", name, labelDigits, 64)
	}
	if strings.HasPrefix(k.hub.KeyHash(), digits) {
		return identity.RevokedKey{}, errOwnKey
	}
	var found []identity.RevokedKey
	for _, i := range k.hub.Ledger.Issues {
		if strings.HasPrefix(i.Key, digits) {
			found = append(found, revocation(i))
		}
	}
	for _, r := range k.list.Revoked {
		if strings.HasPrefix(r.Key, digits) && len(found) == 0 {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return identity.RevokedKey{}, fmt.Errorf("%.80q names %d keys: use all characters of the SHA-256", name, len(found))
	case identity.ValidKeyHash(digits):
		return identity.RevokedKey{Key: digits}, nil
	}
	return identity.RevokedKey{}, fmt.Errorf("no certificate of the key %.80q was issued: `dominionctl certificates` lists them", name)
}

// TakeKeyList takes over a key list that somebody shows: the hub was restored from a
// backup, or the list was lost. What it adds is stored before it is used. changed is
// false if the hub has that list, or a newer one that revokes as much.
func (k *Keys) TakeKeyList(message []byte, now time.Time) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if bytes.Equal(message, k.signedList) {
		return false, nil
	}
	shown, _, err := identity.VerifyKeyList(message, k.options.Dominion, k.hub.Authority.Root)
	if err != nil {
		return false, err
	}
	if k.list.RevokesSigner(shown) {
		return false, fmt.Errorf("cannot take a key list: the intermediate that signed it: %w", identity.ErrRevoked)
	}
	switch {
	case shown.Number > k.list.Number && revokesAll(shown, k.list, now):
		if next, other := k.withOwn(shown); other {
			return true, k.putList(next)
		}
		return true, k.storeList(shown, bytes.Clone(message))
	case shown.Number < k.list.Number:
		if revokesAll(k.list, shown, now) {
			return false, nil
		}
		shown.Hubs = nil // those of a former list may have been taken out since
	}
	next, other := k.withOwn(k.list.Merge(shown))
	if other {
		next.Number--
	}
	return true, k.putList(next)
}

// revokesAll reports whether a list revokes each key that another one does, but for those
// that would have left it because their certificates have ended.
func revokesAll(l, other identity.KeyList, now time.Time) bool {
	for _, r := range other.Revoked {
		if !l.IsRevoked(r.Key) && !identity.RevocationEnded(r, identity.Clock(now)) {
			return false
		}
	}
	return true
}

// rows returns the certificates that were issued, and the keys that were revoked without
// one that is still listed. The caller holds mu.
func (k *Keys) rows() []topics.CertificateView {
	all := []topics.CertificateView{}
	listed := make(map[string]bool)
	for _, i := range k.hub.Ledger.Issues {
		listed[i.Key] = true
		all = append(all, k.view(i))
	}
	for _, r := range k.list.Revoked {
		if listed[r.Key] {
			continue
		}
		v := topics.CertificateView{Name: r.Name, Use: string(r.Use), Key: r.Key, Revoked: true}
		if r.Expires != 0 {
			v.Expires = topics.At(time.Unix(r.Expires, 0))
		}
		all = append(all, v)
	}
	return all
}
