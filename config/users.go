package config

import (
	"strings"
	"unicode"

	"golang.org/x/crypto/bcrypt"
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

func (t *table) user() User {
	defer t.close()
	var u User
	if t.text("name", &u.Name) {
		switch {
		case u.Name == "":
			t.fault("name", `write name = "…"`, "a user needs a name")
		case strings.ContainsAny(u.Name, "+#/") || strings.ContainsFunc(u.Name, unicode.IsControl) || strings.TrimSpace(u.Name) != u.Name:
			t.fault("name", "use no +, # and /, and no space at its ends", "%s is not a valid user name", quote(u.Name))
		}
	}
	if t.text("role", &u.Role) {
		switch u.Role {
		case RoleAdmin, RoleReader, RoleDevice, RoleDomain:
		case "":
			t.fault("role", "write one of admin, reader, device and domain", "a user needs a role")
		default:
			t.fault("role", "use admin, reader, device or domain", "%s is no role", quote(u.Role))
		}
	}
	t.file("password_file", &u.PasswordFile)
	// Nothing below repeats the value: it may be a password by mistake.
	if t.text("password_hash", &u.PasswordHash) && u.PasswordHash != "" {
		const bcryptLength = 60
		if _, err := bcrypt.Cost([]byte(u.PasswordHash)); err != nil || len(u.PasswordHash) != bcryptLength {
			t.fault("password_hash", "make one with: htpasswd -nB NAME, and write what follows NAME:", "is no bcrypt hash")
		}
	}
	t.flag("certificate", &u.Certificate)
	if t.valid("password_file") && t.valid("password_hash") {
		switch {
		case u.PasswordFile == "" && u.PasswordHash == "" && !u.Certificate:
			t.fault("", "write password_file or password_hash, or certificate = true", "a user needs a password or a certificate")
		case u.PasswordFile != "" && u.PasswordHash != "":
			t.fault("password_hash", "take one of them out", "there is a password_file too")
		}
	}
	return u
}
