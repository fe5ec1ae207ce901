package keys

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/identity"
)

// ServiceKeys are the keys of services for which a domain asks for certificates.
type ServiceKeys struct {
	// ID and Domain are id and name of the domain.
	ID, Domain string
	// Keys are the public keys by service, as identity.EncodePublicKey returns them.
	Keys map[string][]byte
}

// ServiceCertificates are what came of ServiceKeys.
type ServiceCertificates struct {
	// Chains has, by service, the certificate and its issuers.
	Chains map[string][][]byte
	// Renewed are the services that had a certificate of that name and key before, sorted.
	Renewed []string
	// Refused are the reasons for which keys got none.
	Refused []error
}

// maxServiceKeys bounds the keys of services of a domain that have a certificate which has not
// ended: a domain must not fill the list of what was issued.
const maxServiceKeys = 128

// CertifyServices issues the certificates of services, SERVICE.DOMAIN, in one write, and returns
// what came of each request. Who asks must have been authenticated as the domain.
func (k *Keys) CertifyServices(asked []ServiceKeys, now time.Time) ([]ServiceCertificates, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	type row struct {
		request int
		service string
	}
	var rows []row
	var requests []identity.ServiceRequest
	all := make([]ServiceCertificates, len(asked))
	owners := k.owners()
	requested := make(map[string]string) // the name, by key
	for n, a := range asked {
		all[n].Chains = make(map[string][][]byte)
		issued, held := k.servicesOf(a.ID), 0
		for _, service := range slices.Sorted(maps.Keys(a.Keys)) {
			r := identity.ServiceRequest{Domain: a.ID, Name: service + "." + a.Domain}
			hash, err := k.mayCertify(&r, a.Keys[service], owners)
			if err == nil && requested[hash] != "" && requested[hash] != r.Name {
				err = errors.New("another service has this key")
			}
			if _, before := issued[hash]; err == nil && !before {
				if held++; len(issued)+held > maxServiceKeys {
					err = fmt.Errorf("the domain has certificates for %d keys of services, more are not issued before some end", len(issued))
				}
			}
			if err != nil {
				all[n].Refused = append(all[n].Refused, fmt.Errorf("cannot issue a certificate to the service %s: %w", r.Name, err))
				continue
			}
			if issued[hash] == r.Name {
				all[n].Renewed = append(all[n].Renewed, service)
			}
			requested[hash] = r.Name
			rows, requests = append(rows, row{n, service}), append(requests, r)
		}
	}
	if len(requests) == 0 {
		return all, nil
	}
	chains, err := k.hub.IssueForServices(requests, now)
	if err != nil {
		return nil, err
	}
	for n, r := range rows {
		all[r.request].Chains[r.service] = identity.EncodeChain(chains[n])
	}
	return all, nil
}

// mayCertify reads the key of a request, and returns its hash, or why it gets no certificate. A key
// is of one owner: revoking it ends all that it is good for. The caller holds mu.
func (k *Keys) mayCertify(r *identity.ServiceRequest, der []byte, owners map[string]string) (hash string, err error) {
	if r.Key, err = identity.ParsePublicKey(der); err != nil {
		return "", err
	}
	hash = identity.HashEncodedKey(der)
	if k.list.IsRevoked(hash) {
		return "", fmt.Errorf("the key %s was revoked: restart the agent there, which then makes a new one", identity.Label(hash))
	}
	owner, owned := owners[hash]
	if owned && owner != r.Domain || r.Key.Equal(&k.hub.Key.PublicKey) || r.Key.Equal(k.hub.Authority.Root.PublicKey) || r.Key.Equal(&k.hub.Authority.Key.PublicKey) {
		return "", fmt.Errorf("the key %s belongs to somebody else", identity.Label(hash))
	}
	return hash, nil
}

// owners returns whose the keys are that have certificates: of a service, the id of its domain; "" of
// all others. The caller holds mu.
func (k *Keys) owners() map[string]string {
	all := make(map[string]string, len(k.hub.Ledger.Issues))
	for _, i := range k.hub.Ledger.Issues {
		all[i.Key] = i.Domain
	}
	if domains := k.domains.Load(); domains != nil {
		for _, d := range *domains {
			all[d.Key] = ""
		}
	}
	return all
}

// servicesOf returns the names of a domain's services that have a certificate, by their keys, but for
// those that are revoked. The caller holds mu.
func (k *Keys) servicesOf(id string) map[string]string {
	all := make(map[string]string)
	for _, i := range k.hub.Ledger.Issues {
		if i.Use == identity.ServiceUse && i.Domain == id && !k.list.IsRevoked(i.Key) {
			all[i.Key] = i.Name
		}
	}
	return all
}

// maxRevokedServices bounds the keys of services in the key list. A key that is left out is not
// accepted either: its domain is not adopted any more.
const maxRevokedServices = 1024

// revokedServices returns the entries of the key list for the services of a domain that is revoked,
// and their names. The caller holds mu.
func (k *Keys) revokedServices(id string) (entries []identity.RevokedKey, names []string) {
	listed := 0
	for _, r := range k.list.Revoked {
		if r.Use == identity.ServiceUse {
			listed++
		}
	}
	of := k.servicesOf(id)
	for _, i := range k.hub.Ledger.Issues {
		if of[i.Key] == "" {
			continue
		}
		names = append(names, i.Name)
		if listed++; listed <= maxRevokedServices {
			entries = append(entries, revocation(i))
		}
	}
	return entries, names
}

// Unrecorded reports whether a key of a service that its domain shows as certified is not in the list of
// what was issued: the hub was restored from a backup, or the list was lost. No certificate of such a
// key is accepted, and the domain has to ask for another one.
func (k *Keys) Unrecorded(id string, certified []string) bool {
	if len(certified) == 0 {
		return false
	}
	k.mu.Lock()
	list, ledger := k.list, k.hub.Ledger // what they hold is never changed
	k.mu.Unlock()
	missing := make(map[string]bool, len(certified))
	for _, key := range certified {
		if !list.IsRevoked(key) {
			missing[key] = true
		}
	}
	for _, i := range ledger.Issues {
		if i.Use == identity.ServiceUse && i.Domain == id {
			delete(missing, i.Key)
		}
	}
	return len(missing) > 0
}

// checkService returns why the certificate of a service is not accepted: it must be in the list of
// what was issued, ledger, and its domain adopted and have the name that it had when it was issued.
func (k *Keys) checkService(peer identity.Peer, ledger identity.Ledger) error {
	_, domain, is := strings.Cut(peer.Subject.Name, ".")
	issue, found := ledger.Find(peer.KeyHash)
	switch {
	case !is:
		return errors.New("its name is not SERVICE.DOMAIN")
	case !found:
		return errNotRecorded
	case issue.Name != peer.Subject.Name:
		return fmt.Errorf("its service is %.128s now", issue.Name)
	}
	if d, adopted := k.domain(issue.Domain); adopted && d.Name == domain {
		return nil
	}
	return errNotAdopted
}
