package broker

import (
	"fmt"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/topics"
)

// The uses of a certificate that the dominion's authority issued, as Owner has them.
const (
	UseDomain  = "domain"
	UseUser    = "user"
	UseService = "service"
)

// SetDomains sets the names of the domains that have a certificate of the dominion. Each
// is a user of the role domain, and each of its services, SERVICE.DOMAIN, one of the role service.
// It must not be changed afterwards. Call it before Listen and at every change.
func (b *Broker) SetDomains(names map[string]bool) {
	before := b.domains.Swap(&names)
	b.engine.AccessChanged()
	if before == nil {
		return
	}
	b.engine.Kick("its certificate is not accepted any more", func(c engine.Client, _ time.Time) bool {
		return c.CertificateUse == UseDomain && !names[c.User] || c.CertificateUse != "" && b.roleOf(c) == ""
	})
}

// KickIssued ends the connections of users and services that have a certificate of the dominion,
// as the authority is not trusted any more: those come back whose certificate still counts.
func (b *Broker) KickIssued() {
	b.engine.Kick("the dominion's authority was replaced", func(c engine.Client, _ time.Time) bool {
		return c.CertificateUse == UseUser || c.CertificateUse == UseService
	})
}

// issuedRole returns the role of a user who is none in the configuration, and has a
// certificate of the dominion; "": there is no such user.
func (b *Broker) issuedRole(user string) string {
	domains := b.domains.Load()
	if domains == nil {
		return ""
	}
	if (*domains)[user] {
		return RoleDomain
	}
	if service, domain, is := strings.Cut(user, "."); is && topics.ValidName(service) && (*domains)[domain] {
		return RoleService
	}
	return ""
}

// account returns whose limits apply to a client: the services of a domain have theirs together,
// as the domain decides how many they are.
func (b *Broker) account(c engine.Client) string {
	if _, configured := b.access.Load().byName[c.User]; configured || b.issuedRole(c.User) != RoleService {
		return c.User
	}
	_, domain, _ := strings.Cut(c.User, ".")
	return "services of " + domain
}

// roleOf returns the role of a client now. One with a certificate of the dominion does not
// get the rights of a user that was added under its name since.
func (b *Broker) roleOf(c engine.Client) string {
	role := b.role(c.Listener, c.User)
	switch {
	case c.CertificateUse == UseDomain && role != RoleDomain, c.CertificateUse == UseService && role != RoleService:
		return "" // it is that of another one
	}
	return role
}

// authenticateIssued returns an error unless a client with a certificate of the dominion
// is the user that it claims to be.
func (b *Broker) authenticateIssued(c engine.Client, user string) error {
	if c.Certificate != user {
		return refusedError{engine.ErrNotAllowed, "its certificate belongs to another user: " + c.Certificate}
	}
	record, configured := b.access.Load().byName[user]
	switch {
	case c.CertificateUse == UseUser && !configured:
		return refusedError{engine.ErrNotAllowed, "its certificate is of the user " + user + ", who was removed"}
	case c.CertificateUse == UseDomain && configured && record.role != RoleDomain:
		return refusedError{engine.ErrNotAllowed, fmt.Sprintf("its certificate is of the domain %s, and there is a user of that name with the role %s: rename one of them", user, record.role)}
	case c.CertificateUse == UseService && (configured || b.role(c.Listener, user) == RoleDomain):
		return refusedError{engine.ErrNotAllowed, "its certificate is of the service " + user + ", and there is a user or domain of that name: rename one of them"}
	case c.CertificateUse == UseService && b.role(c.Listener, user) != RoleService:
		return refusedError{engine.ErrNotAllowed, "its certificate is of the service " + user + ", whose domain has not been adopted"}
	case b.role(c.Listener, user) == "":
		return refusedError{engine.ErrNotAllowed, "its certificate is of " + user + ", who has not been adopted"}
	}
	return nil
}
