package config

import (
	"strings"
	"unicode"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker/access"
)

// User is one [[broker.users]]. At most one of PasswordFile and PasswordHash
// (bcrypt) is set; where none is, Certificate is.
type User struct {
	Name, PasswordFile, PasswordHash, Role string
	// Certificate admits a certificate of client_ca_file with the user's name as common
	// name.
	Certificate bool
}

// The roles of a User.
const (
	RoleAdmin  = access.RoleAdmin
	RoleReader = access.RoleReader
	RoleDevice = access.RoleDevice
	RoleDomain = access.RoleDomain
)

func (t *table) users(to *[]User) {
	lines := make(map[string]int)
	for _, in := range t.tables("users", "name") {
		u := in.user()
		if first, twice := lines[u.Name]; twice && u.Name != "" {
			in.fault("name", "take one of them out", "the user %s is there already, from line %d on", quote(u.Name), first)
		}
		lines[u.Name] = in.l.lines[in.path]
		*to = append(*to, u)
	}
}

// userSettings returns the keys of an element of [[broker.users]].
func userSettings() []setting[*User] {
	return []setting[*User]{
		{
			key: "name", of: func(u *User) any { return &u.Name },
			check: textCheck(userName),
			usual: "required",
			doc:   "no `+`, `#` and `/`, no space at its ends",
		},
		{
			key: "role", of: func(u *User) any { return &u.Role },
			check: textCheck(userRole),
			usual: "required",
			doc:   "`\"admin\"`, `\"reader\"`, `\"device\"` or `\"domain\"`: [what each may do](../access.md)",
		},
		{
			key: "password_file", of: func(u *User) any { return &u.PasswordFile }, isPath: true,
			doc: "file with the password. A user needs this, `password_hash` or `certificate`",
		},
		{
			key: "password_hash", of: func(u *User) any { return &u.PasswordHash },
			check: optionalText(bcryptHash),
			doc:   "bcrypt hash of the password, as of `htpasswd -nB NAME`",
		},
		{
			key: "certificate", of: func(u *User) any { return &u.Certificate },
			doc: "a [certificate](../how-to/client-certificates.md) with the user's name as common name is enough",
		},
	}
}

func userName(s string) problem {
	if s == "" {
		return problem{"a user needs a name", `write name = "…"`}
	}
	if strings.ContainsAny(s, "+#/") || strings.ContainsFunc(s, unicode.IsControl) || strings.TrimSpace(s) != s {
		return problem{quote(s) + " is not a valid user name", "use no +, # and /, and no space at its ends"}
	}
	return problem{}
}

func userRole(s string) problem {
	switch s {
	case RoleAdmin, RoleReader, RoleDevice, RoleDomain:
		return problem{}
	case "":
		return problem{"a user needs a role", "write one of admin, reader, device and domain"}
	}
	return problem{quote(s) + " is no role", "use admin, reader, device or domain"}
}

// bcryptHash does not repeat the value: it may be a password by mistake.
func bcryptHash(s string) problem {
	const length = 60
	if _, err := bcrypt.Cost([]byte(s)); err != nil || len(s) != length {
		return problem{"is no bcrypt hash", "make one with: htpasswd -nB NAME, and write what follows NAME:"}
	}
	return problem{}
}

func (t *table) user() User {
	defer t.close()
	var u User
	readElement(t, userSettings(), &u)
	if !t.valid("password_file") || !t.valid("password_hash") {
		return u
	}
	if u.PasswordFile == "" && u.PasswordHash == "" && !u.Certificate {
		t.fault("", "write password_file or password_hash, or certificate = true", "a user needs a password or a certificate")
	}
	if u.PasswordFile != "" && u.PasswordHash != "" {
		t.fault("password_hash", "take one of them out", "there is a password_file too")
	}
	return u
}
