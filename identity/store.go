package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// Directory is the name of the directory of keys and certificates in data_dir.
const Directory = "identity"

// The files of Directory. A hub's and an agent's data_dir may be one.
const (
	authorityKeyFile     = "authority.key"
	authorityCertFile    = "authority.crt"
	intermediateKeyFile  = "intermediate.key"
	intermediateCertFile = "intermediate.crt"
	nextAuthorityKey     = "authority-next.key"
	nextAuthorityCert    = "authority-next.crt"
	nextCrossCertFile    = "authority-next-cross.crt"
	nextHubKeyFile       = "hub-next.key"
	crossCertFile        = "authority-cross.crt"
	formerCertFile       = "authority-former.crt"
	hubKeyFile           = "hub.key"
	hubCertFile          = "hub.crt"
	browserRootKeyFile   = "browser-root.key"
	browserRootCertFile  = "browser-root.crt"
	browserKeyFile       = "browser.key"
	browserCertFile      = "browser.crt"
	domainKeyFile        = "domain.key"
	domainCertFile       = "domain.crt"
	trustFile            = "trust.json"
	ledgerFile           = "issued.json"
)

// Remedies of a KeyError.
const (
	hubRemedy    = "restore identity/ from a backup, or dominion identity new"
	domainRemedy = "restore identity/ from a backup, or domain reset"
)

// KeyError means that a key, or the certificate that is pinned by others, is lost or
// damaged. It is never replaced by itself: that would make a hub a stranger to its domains.
type KeyError struct {
	Path string
	// Remedy is what a person can do.
	Remedy string
	Err    error
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("cannot read %s: %v: %s", e.Path, e.Err, e.Remedy)
}

func (e *KeyError) Unwrap() error { return e.Err }

// errLost means that a file is missing that must be there.
var errLost = errors.New("it is missing, and this data_dir has had it before")

// Store reads and writes the files of data_dir/identity. It has one owner at a time.
type Store struct {
	dir    string
	remedy string
}

// OpenStore opens data_dir/identity, and makes it if it does not exist. It is for its
// owner alone.
func OpenStore(dataDir string) (*Store, error) { return openStore(dataDir, hubRemedy) }

func openStore(dataDir, remedy string) (*Store, error) {
	dir := filepath.Join(dataDir, Directory)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of keys: %w", err)
	}
	info, err := os.Stat(dir)
	if err == nil && info.Mode().Perm() != 0o700 {
		err = os.Chmod(dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the directory of keys: %w", err)
	}
	return &Store{dir: dir, remedy: remedy}, nil
}

// Path returns the path of a file of the store.
func (s *Store) Path(name string) string { return filepath.Join(s.dir, name) }

// Read returns the content of a file; found is false if there is none.
func (s *Store) Read(name string) (content []byte, found bool, err error) {
	content, err = os.ReadFile(s.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, s.broken(name, err)
	}
	return content, true, nil
}

// broken returns the error of a file that cannot be read.
func (s *Store) broken(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // the error names the path itself
	}
	return &KeyError{Path: s.Path(name), Remedy: s.remedy, Err: err}
}

// Secret returns the content of a file that check accepts. If there is no such file, make makes
// the content, unless known is true: then the file is lost. A file that is there is never replaced.
func (s *Store) Secret(name string, known bool, check func([]byte) error, make func() ([]byte, error)) ([]byte, error) {
	content, found, err := s.Read(name)
	if err != nil {
		return nil, err
	}
	if found {
		if err := check(content); err != nil {
			return nil, s.broken(name, err)
		}
		return content, nil
	}
	if known {
		return nil, s.broken(name, errLost)
	}
	if content, err = make(); err != nil {
		return nil, err
	}
	if err := atomicfile.Create(s.Path(name), content, 0o600); err != nil {
		return nil, err
	}
	return content, nil
}

// Key returns the key of a file, as Secret does.
func (s *Store) Key(name string, known bool) (*ecdsa.PrivateKey, error) {
	var key *ecdsa.PrivateKey
	_, err := s.Secret(name, known,
		func(text []byte) (err error) { key, err = ParseKey(text); return err },
		func() (text []byte, err error) {
			if key, err = NewKey(); err != nil {
				return nil, err
			}
			return EncodeKey(key)
		})
	return key, err
}

// Certificates returns those of a file, or nothing if it is missing or damaged: whoever has the
// key makes them anew.
func (s *Store) Certificates(name string) []*x509.Certificate {
	text, found, err := s.Read(name)
	if err != nil || !found {
		return nil
	}
	chain, err := ParseCertificates(text)
	if err != nil {
		return nil
	}
	return chain
}

// PutCertificates writes certificates to a file.
func (s *Store) PutCertificates(name string, chain ...*x509.Certificate) error {
	return atomicfile.Write(s.Path(name), EncodeCertificates(chain...), 0o600)
}

// SetAside renames data_dir/identity, if there is one, so that the next start makes new
// keys, and returns its new path: `dominion identity new`, which makes a hub a stranger to
// its domains. Nothing is deleted.
func SetAside(dataDir string, now time.Time) (string, error) {
	from := filepath.Join(dataDir, Directory)
	to := from + ".before-" + now.UTC().Format("20060102-150405")
	if _, err := os.Lstat(to); err == nil {
		return "", fmt.Errorf("cannot set %s aside: %s exists", from, to)
	}
	if err := os.Rename(from, to); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("cannot set the keys aside: %w", err)
	}
	return to, nil
}

// sync makes the names in the directory durable.
func (s *Store) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Issue is a certificate that was issued: the newest one of its key.
type Issue struct {
	Use  Use    `json:"use"`
	Name string `json:"name"`
	// Domain is the id of the domain of a service; "" for others.
	Domain string `json:"domain,omitempty"`
	// DomainName is the name that a domain had when its key was revoked; "" for others.
	DomainName string    `json:"domain_name,omitempty"`
	Key        string    `json:"key"`
	Issued     time.Time `json:"issued"`
	// Expires is when the last certificate of the key ends: of a user or a service that may be a
	// former one.
	Expires time.Time `json:"expires"`
}

// RenewAt returns when the certificate is renewed: after two thirds of its lifetime.
func (i Issue) RenewAt() time.Time { return i.Issued.Add(i.Expires.Sub(i.Issued) / 3 * 2) }

// Ledger lists what the authority has issued, the newest certificate of each key. A certificate of a
// user or a service is accepted only while its key is listed, which it is until it ends.
type Ledger struct {
	Issues []Issue `json:"issued"`
	// NewestIssued is when the newest certificate was issued, of any key.
	NewestIssued time.Time `json:"newest"`
}

// With returns a ledger that has a certificate too. Entries of users and services that ended
// are left out.
func (l Ledger) With(cert *x509.Certificate) Ledger {
	return l.withAll([]*x509.Certificate{cert}, []string{""})
}

// withAll returns a ledger that has certificates too. Each is of the domain of an id, "" if it is
// not of a service.
func (l Ledger) withAll(certs []*x509.Certificate, domains []string) Ledger {
	next := Ledger{NewestIssued: l.NewestIssued}
	keys := make(map[string]bool, len(certs))
	for _, cert := range certs {
		next.NewestIssued = later(next.NewestIssued, Issued(cert))
		keys[hashOf(cert)] = true
	}
	ends := make(map[string]time.Time, len(certs)) // of former certificates of these keys
	for _, i := range l.Issues {
		bounded := i.Use == UserUse || i.Use == ServiceUse
		switch {
		case keys[i.Key]:
			if bounded {
				ends[i.Key] = i.Expires
			}
		case !bounded || !i.Expires.Before(next.NewestIssued):
			next.Issues = append(next.Issues, i)
		}
	}
	for n, cert := range certs {
		if s, err := SubjectOf(cert); err == nil {
			next.Issues = append(next.Issues, Issue{
				Use: s.Use, Name: s.Name, Domain: domains[n], Key: hashOf(cert), Issued: Issued(cert), Expires: later(cert.NotAfter, ends[hashOf(cert)]),
			})
		}
	}
	return next
}

// withName returns a ledger that has the name of the domain of a key, and whether it is another one.
func (l Ledger) withName(key, name string) (Ledger, bool) {
	at := slices.IndexFunc(l.Issues, func(i Issue) bool { return i.Key == key && i.Use == DomainUse && i.DomainName != name })
	if at < 0 {
		return l, false
	}
	l.Issues = slices.Clone(l.Issues)
	l.Issues[at].DomainName = name
	return l, true
}

// Find returns the issue of a key.
func (l Ledger) Find(key string) (Issue, bool) {
	for _, i := range l.Issues {
		if i.Key == key {
			return i, true
		}
	}
	return Issue{}, false
}
