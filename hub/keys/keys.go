// Package keys holds the keys and certificates of a running hub: it opens package
// identity's files, renews the hub's certificate, serves it to TLS, and says whose the
// certificates of clients are.
//
// Its methods may be called from any goroutine. It writes the files in
// data_dir/identity, and nothing of MQTT. The hub and its HTTP server use it.
//
// # Files
//
//	adoption.go   what adoptions are signed with; certificates of domains
//	authority.go  taking the authority offline, replacing it
//	issue.go      what was issued; certificates of users
//	keys.go       the hub's certificate and its renewal; whose a client's is
//	list.go       the key list
//	orders.go     signing orders
//	services.go   certificates of services
package keys

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// Options say which keys are opened.
type Options struct {
	// DataDir has the directory identity.
	DataDir string
	// Dominion is the id of the dominion, Name its name.
	Dominion, Name string
	// Lifetime is that of certificates.
	Lifetime time.Duration
	// AuthorityCert and AuthorityKey are files in the place of the dominion's own; "":
	// its own.
	AuthorityCert, AuthorityKey string
	// Known reports whether this data_dir had keys before.
	Known bool
	// Names returns how the hub is reached now.
	Names func() (identity.Names, error)
	Log   *slog.Logger
}

// Keys are the keys of a running hub. Make them with Open.
type Keys struct {
	options Options
	wordKey adoption.WordKey
	// served is what TLS listeners serve, browser what HTTPS serves.
	served, browser atomic.Pointer[tls.Certificate]
	// signer is what orders are signed with.
	signer atomic.Pointer[signer]
	// published is the payload of hub/certificate.
	published atomic.Pointer[topics.HubCertificateView]
	// domains are the adopted domains by id; nil before the first SetDomains.
	domains atomic.Pointer[map[string]Domain]

	// mu guards what follows.
	mu      sync.Mutex
	hub     *identity.Hub
	renewal *identity.Renewal
	// list is the key list, signedList the message of it.
	list       identity.KeyList
	signedList []byte
	// successor is what replaces the authority and the hub's key; nil: nothing does.
	successor *successor
}

// Domain is an adopted domain.
type Domain struct {
	Name string
	// Key is the hash of its key.
	Key string
	// Unfinished is set while it may not have stored that it was adopted, and goes on without
	// signatures.
	Unfinished bool
}

// Open reads the keys, and makes what there is not yet. It returns an identity.KeyError
// if a key is lost or damaged: the hub goes on without keys then.
func Open(o Options) (*Keys, error) {
	now := time.Now()
	names, err := o.Names()
	if err != nil {
		return nil, err
	}
	hub, err := identity.OpenHub(o.DataDir, identity.HubOptions{
		Dominion: o.Dominion, Name: o.Name, Lifetime: o.Lifetime, Names: names, Known: o.Known, Now: now,
		AuthorityCert: o.AuthorityCert, AuthorityKey: o.AuthorityKey, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	words, err := openWordKey(hub.Store())
	if err != nil {
		return nil, err
	}
	k := &Keys{wordKey: words, options: o, hub: hub, renewal: hub.Renewal()}
	k.renewal.SetNames(names)
	if err := k.openList(); err != nil {
		return nil, err
	}
	k.serve()
	k.sign()
	return k, nil
}

// serve sets what the listeners serve. The caller holds mu, or is the only one.
func (k *Keys) serve() {
	served, browser := k.hub.TLS(), k.hub.Browser.TLS()
	k.served.Store(&served)
	k.browser.Store(&browser)
	if now := k.signer.Load(); now != nil && now.hash == k.hub.KeyHash() {
		k.publish()
	}
}

// publish sets the certificate that is published, of the key that signs. The caller holds
// mu, or is the only one.
func (k *Keys) publish() {
	published := k.hub.Published()
	k.published.Store(&published)
}

// sign sets what orders are signed with. The caller holds mu, or is the only one.
func (k *Keys) sign() {
	k.signer.Store(&signer{k.hub.Key, k.hub.KeyHash()})
	k.publish()
}

// checkInterval is how often the machine's names are compared with the certificate's.
const checkInterval = time.Minute

// Run renews the hub's certificate when it is due or the machine's names have changed,
// until ctx ends. renewed is called after that.
func (k *Keys) Run(ctx context.Context, renewed func(expires time.Time)) {
	for {
		timer := time.NewTimer(min(checkInterval, max(time.Second, time.Until(k.next(time.Now())))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if k.renew(time.Now()) {
			renewed(k.Expires())
		}
	}
}

// next returns when the certificate is due.
func (k *Keys) next(now time.Time) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.renewal.Next(now)
}

// renew makes the certificate anew if it is due, and reports whether it did.
func (k *Keys) renew(now time.Time) bool {
	names, err := k.options.Names()
	if err != nil {
		k.options.Log.Warn("the hub's certificate keeps its names", "error", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.renewal.SetNames(names)
	}
	if !k.renewal.Expire(now) {
		return false
	}
	names = k.renewal.Names()
	if err := k.hub.Renew(names, now); err != nil {
		k.renewal.Failed(now)
		k.options.Log.Error("cannot renew the hub's certificate; it is tried again", "error", err)
		return false
	}
	k.renewal.Done(now, names, k.hub.Chain[0], k.hub.Browser.Leaf)
	k.serve()
	return true
}

// With calls do with the hub's identity, which nobody else uses meanwhile.
func (k *Keys) With(do func(*identity.Hub) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return do(k.hub)
}

// SetDomains sets the adopted domains, by id. The map must not be changed afterwards.
func (k *Keys) SetDomains(byID map[string]Domain) { k.domains.Store(&byID) }

// Authority returns the certificate of the authority, which domains pin.
func (k *Keys) Authority() *x509.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hub.Authority.Root
}

// Published returns the payload of hub/certificate. It does not wait for anything.
func (k *Keys) Published() topics.HubCertificateView { return *k.published.Load() }

// Expires returns when the hub's certificate ends.
func (k *Keys) Expires() time.Time { return k.served.Load().Leaf.NotAfter }

// BrowserRoot returns the root that people install in browsers, as PEM and as a
// configuration profile of iOS and macOS.
func (k *Keys) BrowserRoot() (pem, profile []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hub.Browser.PEM(), k.hub.Browser.MobileConfig()
}

// ForClients is the identity of the broker's TLS listeners.
func (k *Keys) ForClients() broker.Identity { return side{k, &k.served} }

// ForBrowsers is the identity of the HTTPS listener.
func (k *Keys) ForBrowsers() broker.Identity { return side{k, &k.browser} }

// side is broker.Identity with one of the certificates.
type side struct {
	keys        *Keys
	certificate *atomic.Pointer[tls.Certificate]
}

func (s side) Certificate(serverName string) *tls.Certificate {
	if serverName == topics.HubServerName { // a domain, which verifies the hub by its authority
		return s.keys.served.Load()
	}
	return s.certificate.Load()
}

func (s side) Identify(chain []*x509.Certificate) (broker.Owner, bool, error) {
	return s.keys.identify(chain, time.Now())
}

// errNotAdopted means that a domain has a certificate of the dominion, and is not among
// its domains: it was forgotten, or adopted after the backup that was restored.
var errNotAdopted = errors.New("the certificate is of ours, and not in the list of adopted domains")

// errNotRecorded means that a user or service has a certificate of the dominion that is not in the
// list of what was issued. Such a one could neither be listed nor revoked.
var errNotRecorded = errors.New("this hub has no record of it: it was issued after the backup from which the hub was restored, or the record was lost")

// records reports whether a certificate is in the list of what was issued.
func records(ledger identity.Ledger, peer identity.Peer) bool {
	i, found := ledger.Find(peer.KeyHash)
	return found && i.Use == peer.Subject.Use && i.Name == peer.Subject.Name
}

// identify returns whose the certificate of a client is.
func (k *Keys) identify(chain []*x509.Certificate, now time.Time) (broker.Owner, bool, error) {
	if _, err := identity.SubjectOf(chain[0]); err != nil {
		return broker.Owner{}, false, nil // not of a dominion
	}
	k.mu.Lock()
	list, ledger := k.list, k.hub.Ledger // what they hold is never changed
	verifier := k.hub.Verifier(&list, k.known)
	k.mu.Unlock()
	peer, err := verifier.Verify(chain, now, identity.DomainUse, identity.UserUse, identity.ServiceUse)
	if err != nil {
		return broker.Owner{}, true, err
	}
	owner := broker.Owner{Name: peer.Subject.Name, Use: string(peer.Subject.Use)}
	if peer.Subject.Use == identity.DomainUse {
		d, adopted := k.domain(peer.Subject.Name)
		if !adopted || d.Key != peer.KeyHash {
			return broker.Owner{}, true, fmt.Errorf("cannot verify the certificate of the domain %.80s: %w", peer.Subject.Name, errNotAdopted)
		}
		owner.Name = d.Name
	}
	if peer.Subject.Use == identity.UserUse && !records(ledger, peer) {
		return broker.Owner{}, true, fmt.Errorf("cannot verify the certificate of the user %.80s: %w: `dominionctl user certificate %.80s` issues another one", peer.Subject.Name, errNotRecorded, peer.Subject.Name)
	}
	if peer.Subject.Use == identity.ServiceUse {
		if err := k.checkService(peer, ledger); err != nil {
			return broker.Owner{}, true, fmt.Errorf("cannot verify the certificate of the service %.128s: %w", peer.Subject.Name, err)
		}
	}
	return owner, true, nil
}

// known reports whether a key is that of an adopted domain: such a one is accepted after
// its certificate's end.
func (k *Keys) known(s identity.Subject, key string) bool {
	d, adopted := k.domain(s.Name)
	return s.Use == identity.DomainUse && adopted && d.Key == key
}

// domain returns the adopted domain of an id.
func (k *Keys) domain(id string) (Domain, bool) {
	all := k.domains.Load()
	if all == nil {
		return Domain{}, false
	}
	d, adopted := (*all)[id]
	return d, adopted
}
