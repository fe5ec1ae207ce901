package identity

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// HubOptions says which identity OpenHub opens.
type HubOptions struct {
	// Dominion is the id of the dominion.
	Dominion string
	// Name is the name of the dominion, for people.
	Name string
	// Lifetime is of certificates; zero is DefaultLifetime.
	Lifetime time.Duration
	// Names is how the hub is reached, for what is made now.
	Names Names
	// Known reports whether this data_dir had an authority before: keys that are missing are then
	// lost, and OpenHub returns a KeyError.
	Known bool
	Now   time.Time
	// AuthorityCert and AuthorityKey are files in the place of the authority's own: [identity]
	// authority_cert and authority_key. The certificate may be an intermediate.
	AuthorityCert, AuthorityKey string
	Log                         *slog.Logger
}

// Hub is the identity of a hub: its authority, its own key and certificate, and what browsers
// get. Its methods write files; it has one owner at a time.
type Hub struct {
	Authority *Authority
	Key       *ecdsa.PrivateKey
	// Chain is the hub's certificate and its issuers without the root.
	Chain []*x509.Certificate
	// Browser is the root for browsers, and its leaf.
	Browser *Browser
	// Ledger lists what was issued.
	Ledger Ledger

	dominion string
	name     string
	lifetime time.Duration
	store    *Store
	// configured is set if the authority is that of [identity] authority_cert.
	configured bool
	// cross is of the authority's key, issued by the authority before it; nil: there is none.
	cross *x509.Certificate
	// former are the authorities before, whose certificates of users still count.
	former []*x509.Certificate
}

// OpenHub reads the identity of a hub, and makes what there is not yet. It returns a
// KeyError if a key is damaged, or lost: then the hub serves its broker, and adopts and signs nothing.
func OpenHub(dataDir string, o HubOptions) (*Hub, error) {
	store, err := openStore(dataDir, hubRemedy)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Hub{dominion: o.Dominion, name: o.Name, lifetime: o.Lifetime, store: store}
	if h.lifetime == 0 {
		h.lifetime = DefaultLifetime
	}
	if h.Ledger, _, err = atomicfile.ReadJSON[Ledger](store.Path(ledgerFile), o.Log); err != nil {
		return nil, err
	}
	// The ledger may be lost; the certificates that there are tell as much.
	for _, file := range []string{authorityCertFile, hubCertFile, domainCertFile} {
		if c := store.Certificates(file); c != nil {
			h.Ledger.NewestIssued = later(h.Ledger.NewestIssued, Issued(c[0]))
		}
	}
	if h.Authority, err = h.openAuthority(o); err != nil {
		return nil, err
	}
	if h.Key, err = store.Key(hubKeyFile, o.Known); err != nil {
		return nil, err
	}
	if h.Browser, err = openBrowser(store, o, Reference(o.Now, h.Ledger.NewestIssued)); err != nil {
		return nil, err
	}
	h.openFormer()
	h.Chain = store.Certificates(hubCertFile)
	// Other names than those of the last run are a matter of Renewal.
	if !h.usable(o.Now) || h.Browser.Leaf == nil || RenewalDue(h.Browser.Leaf, o.Now) {
		if err := h.Renew(o.Names, o.Now); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// openAuthority reads the authority, from the files that were configured or from its own.
func (h *Hub) openAuthority(o HubOptions) (*Authority, error) {
	if (o.AuthorityCert == "") != (o.AuthorityKey == "") {
		return nil, errors.New("cannot use the authority: authority_cert and authority_key must be set together")
	}
	if h.configured = o.AuthorityCert != ""; h.configured {
		return readAuthority(o.AuthorityCert, o.AuthorityKey)
	}
	// The root decides where its key is: it was not taken away yet, or was brought back.
	_, isRoot, err := h.store.Read(authorityKeyFile)
	if err != nil {
		return nil, err
	}
	_, isIntermediate, err := h.store.Read(intermediateKeyFile)
	if err != nil {
		return nil, err
	}
	if !isRoot && !isIntermediate && h.store.Certificates(intermediateCertFile) != nil {
		return nil, h.brokenIntermediate(errLost)
	}
	if isIntermediate && !isRoot {
		a, err := readAuthority(h.store.Path(intermediateCertFile), h.store.Path(intermediateKeyFile))
		if err != nil {
			return nil, h.brokenIntermediate(err)
		}
		return a, nil
	}
	key, err := h.store.Key(authorityKeyFile, o.Known)
	if err != nil {
		return nil, err
	}
	// A power cut after the key was made, or a certificate that is lost: another one of the same key
	// has the same hash, and verifies what the former one does. Of an authority that has just
	// replaced another one the certificate is still that of the next one.
	root := h.store.Certificates(authorityCertFile)
	if root == nil || !key.PublicKey.Equal(root[0].PublicKey) {
		root = h.store.Certificates(nextAuthorityCert)
	}
	if root == nil || !key.PublicKey.Equal(root[0].PublicKey) {
		cert, err := selfSign(h.dominion, key, Reference(o.Now, h.Ledger.NewestIssued))
		if err != nil {
			return nil, err
		}
		root = []*x509.Certificate{cert}
		if err := h.store.PutCertificates(authorityCertFile, cert); err != nil {
			return nil, err
		}
	}
	return newAuthority(root[:1], key)
}

// brokenIntermediate returns the error of an intermediate that cannot be used: whoever has the
// authority's key makes another one.
func (h *Hub) brokenIntermediate(err error) error {
	remedy := "put the file that `dominionctl authority offline` wrote back as " + h.store.Path(authorityKeyFile) + ", or " + hubRemedy
	return &KeyError{Path: h.store.Path(intermediateKeyFile), Remedy: remedy, Err: err}
}

// readAuthority reads an authority from two files.
func readAuthority(certs, key string) (*Authority, error) {
	c, err := os.ReadFile(certs)
	if err != nil {
		return nil, fmt.Errorf("cannot read the authority's certificate: %w", err)
	}
	k, err := os.ReadFile(key)
	if err != nil {
		return nil, fmt.Errorf("cannot read the authority's key: %w", err)
	}
	return ParseAuthority(c, k)
}

// usable reports whether the stored certificate of the hub is of its key and authority.
func (h *Hub) usable(now time.Time) bool {
	if len(h.Chain) == 0 || !h.Key.PublicKey.Equal(h.Chain[0].PublicKey) || RenewalDue(h.Chain[0], now) {
		return false
	}
	_, err := Verifier{Dominion: h.dominion, Roots: []*x509.Certificate{h.Authority.Root}}.Verify(h.Chain, now, HubUse)
	return err == nil
}

// DominionOf returns the id of the dominion whose hub has its keys in a data_dir, by the
// certificates there; "": there are none that can be read.
func DominionOf(dataDir string) string {
	store := Store{dir: filepath.Join(dataDir, Directory)}
	for _, cert := range store.Certificates(hubCertFile) {
		if s, err := SubjectOf(cert); err == nil && s.Use == HubUse {
			return s.Dominion
		}
	}
	for _, cert := range store.Certificates(authorityCertFile) {
		if o := cert.Subject.Organization; cert.IsCA && len(o) == 1 && topics.ValidID(o[0]) {
			return o[0]
		}
	}
	return ""
}

// KeyHash returns the hash of the hub's key, which orders name.
func (h *Hub) KeyHash() string { return hashOf(h.Chain[0]) }

// Names returns what the hub's certificate names.
func (h *Hub) Names() Names { return namesOf(h.Chain[0]) }

// namesOf returns what a certificate names.
func namesOf(cert *x509.Certificate) Names {
	n := Names{Hosts: cert.DNSNames}
	for _, ip := range cert.IPAddresses {
		n.Addresses = append(n.Addresses, addrOf(ip))
	}
	return n
}

// Renew makes the hub's certificate and the browsers' leaf anew, with the same keys.
func (h *Hub) Renew(names Names, now time.Time) error {
	cert, err := h.issue(Request{Subject: Subject{h.dominion, HubUse, h.dominion}, Key: &h.Key.PublicKey, Names: names}, now)
	if err != nil {
		return err
	}
	chain := append([]*x509.Certificate{cert}, h.Authority.between...)
	if h.cross != nil {
		chain = append(chain, h.cross)
	}
	if err := h.store.PutCertificates(hubCertFile, chain...); err != nil {
		return err
	}
	h.Chain = chain
	return h.Browser.renew(h.store, names, Reference(now, h.Ledger.NewestIssued))
}

// Issue makes a certificate and records it before it returns it. A lifetime of zero is the
// configured one.
func (h *Hub) Issue(s Subject, key *ecdsa.PublicKey, lifetime time.Duration, now time.Time) ([]*x509.Certificate, error) {
	s.Dominion = h.dominion
	cert, err := h.issue(Request{Subject: s, Key: key, Lifetime: lifetime}, now)
	if err != nil {
		return nil, err
	}
	return append([]*x509.Certificate{cert}, h.Authority.between...), nil
}

// ServiceRequest is a certificate that a domain asks for, for one of its services.
type ServiceRequest struct {
	// Domain is the id of the domain.
	Domain string
	// Name is SERVICE.DOMAIN.
	Name string
	Key  *ecdsa.PublicKey
}

// IssueForServices makes the certificates of services, and records them before it returns them, all
// in one write. Each is returned with its issuers, in the order of the requests.
func (h *Hub) IssueForServices(requests []ServiceRequest, now time.Time) ([][]*x509.Certificate, error) {
	var certs []*x509.Certificate
	var domains []string
	chains := make([][]*x509.Certificate, 0, len(requests))
	for _, r := range requests {
		cert, err := h.sign(Request{Subject: Subject{h.dominion, ServiceUse, r.Name}, Key: r.Key}, now)
		if err != nil {
			return nil, err
		}
		certs, domains = append(certs, cert), append(domains, r.Domain)
		chains = append(chains, append([]*x509.Certificate{cert}, h.Authority.between...))
	}
	if err := h.record(h.Ledger.withAll(certs, domains)); err != nil {
		return nil, err
	}
	return chains, nil
}

func (h *Hub) issue(r Request, now time.Time) (*x509.Certificate, error) {
	cert, err := h.sign(r, now)
	if err != nil {
		return nil, err
	}
	if err := h.record(h.Ledger.With(cert)); err != nil {
		return nil, err
	}
	return cert, nil
}

// sign makes a certificate that is not recorded yet.
func (h *Hub) sign(r Request, now time.Time) (*x509.Certificate, error) {
	r.At = Reference(now, h.Ledger.NewestIssued)
	if r.Lifetime == 0 {
		r.Lifetime = h.lifetime
	}
	if r.Subject.Use != HubUse && r.Key != nil && r.Key.Equal(&h.Key.PublicKey) {
		return nil, errors.New("cannot issue a certificate: its key is the hub's own")
	}
	return h.Authority.Issue(r)
}

// RecordName records the name of a domain whose key is revoked: people know it by that.
func (h *Hub) RecordName(key, name string) error {
	l, changed := h.Ledger.withName(key, name)
	if !changed {
		return nil
	}
	return h.record(l)
}

// record stores the ledger.
func (h *Hub) record(l Ledger) error {
	if err := atomicfile.WriteJSON(h.store.Path(ledgerFile), l); err != nil {
		return err
	}
	h.Ledger = l
	return nil
}

// Verifier returns a verifier of the dominion's certificates. Those of users and services that
// an authority before has issued count if the ledger lists their key.
func (h *Hub) Verifier(keys *KeyList, known func(s Subject, key string) bool) Verifier {
	ledger := h.Ledger // what it holds is never changed
	return Verifier{
		Dominion: h.dominion, Roots: []*x509.Certificate{h.Authority.Root}, Former: h.former, Keys: keys, Known: known,
		Issued: func(s Subject, key string) bool {
			i, is := ledger.Find(key)
			return is && i.Use == s.Use && i.Name == s.Name
		},
	}
}

// TLS returns the hub's certificate for TLS.
func (h *Hub) TLS() tls.Certificate { return TLSCertificate(h.Key, h.Chain) }
