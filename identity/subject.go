package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jmbarzee/dominion/topics"
)

// Use is what a certificate is for.
type Use = topics.CertificateUse

// The uses.
const (
	HubUse     Use = "hub"
	DomainUse  Use = "domain"
	UserUse    Use = "user"
	ServiceUse Use = "service"
	// AuthorityUse is of an authority's own key, in the key list alone.
	AuthorityUse Use = "authority"
)

var uses = []Use{HubUse, DomainUse, UserUse, ServiceUse}

// Subject is what a certificate says of its key, as the URI
// dominion:<dominion id>:<use>:<id or name>.
type Subject struct {
	// Dominion is the id of the dominion.
	Dominion string
	Use      Use
	// Name is the id of a hub or domain, the name of a user, or SERVICE.DOMAIN.
	Name string
}

const scheme = "dominion"

// maxName is the longest name in a certificate, in bytes.
const maxName = 128

// check returns an error if the subject cannot stand in a certificate.
func (s Subject) check() error {
	switch {
	case !topics.ValidID(s.Dominion):
		return fmt.Errorf("%.80q is not a valid dominion id", s.Dominion)
	case !slices.Contains(uses, s.Use):
		return fmt.Errorf("%.80q is not a use of a certificate: hub, domain, user or service", s.Use)
	case s.Name == "" || len(s.Name) > maxName || !utf8.ValidString(s.Name) || strings.ContainsFunc(s.Name, unicode.IsControl):
		return fmt.Errorf("%.80q is not a valid name in a certificate: use 1 to %d bytes without control characters", s.Name, maxName)
	}
	return nil
}

// opaque returns the URI of the subject without its scheme.
func (s Subject) opaque() string {
	return s.Dominion + ":" + string(s.Use) + ":" + url.PathEscape(s.Name)
}

// URI returns the subject as it stands in a certificate.
func (s Subject) URI() *url.URL { return &url.URL{Scheme: scheme, Opaque: s.opaque()} }

// String returns the URI as text.
func (s Subject) String() string { return s.URI().String() }

// ParseSubject reads the URI of a certificate, and takes no other spelling than String's.
func ParseSubject(uri string) (Subject, error) {
	rest, is := strings.CutPrefix(uri, scheme+":")
	dominion, rest, has := strings.Cut(rest, ":")
	use, escaped, hasName := strings.Cut(rest, ":")
	if !is || !has || !hasName {
		return Subject{}, fmt.Errorf("%.120q is not the URI of a dominion's certificate", uri)
	}
	name, err := url.PathUnescape(escaped)
	s := Subject{Dominion: dominion, Use: Use(use), Name: name}
	if err != nil || s.String() != uri {
		return Subject{}, fmt.Errorf("%.120q is not the URI of a dominion's certificate", uri)
	}
	if err := s.check(); err != nil {
		return Subject{}, err
	}
	return s, nil
}

// SubjectOf returns the subject of a certificate. Its common name is not looked at.
func SubjectOf(cert *x509.Certificate) (Subject, error) {
	var found []string
	for _, uri := range cert.URIs {
		if uri.Scheme == scheme {
			found = append(found, uri.String())
		}
	}
	if len(found) != 1 {
		return Subject{}, errors.New("the certificate does not say its use: it has no URI dominion:…, or more than one")
	}
	return ParseSubject(found[0])
}
