package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/internal/passwordfile"
	"github.com/jmbarzee/dominion/topics"
)

// maxHashCost bounds the cost of checking one password: some 2 s of a core of a PC.
const maxHashCost = 15

// record checks a user, and returns its record.
func (u User) record() (userRecord, error) {
	a := userRecord{role: u.Role, certificate: u.Certificate, verified: new(atomic.Pointer[digest])}
	switch {
	case u.Name == "":
		return a, errors.New("it has no name")
	case !slices.Contains(access.Roles(), u.Role):
		return a, fmt.Errorf("%q is not a valid role: use one of %s", u.Role, strings.Join(access.Roles(), ", "))
	case u.Role == RoleDomain && !topics.ValidName(u.Name):
		return a, errors.New("a user of the role domain has the name of its domain, and this is not a valid one: use a-z, 0-9 and \"-\"")
	case u.PasswordFile != "" && u.PasswordHash != "", u.PasswordFile == "" && u.PasswordHash == "" && !u.Certificate:
		return a, errors.New("it needs one of password_file and password_hash, or certificate = true")
	case u.PasswordFile == "" && u.PasswordHash == "":
		return a, nil
	case u.PasswordHash != "":
		cost, err := bcrypt.Cost([]byte(u.PasswordHash))
		if err != nil {
			return a, errors.New("its password_hash is not a bcrypt hash")
		}
		if cost > maxHashCost {
			return a, fmt.Errorf("its password_hash has cost %d: checking wrong passwords takes too long with more than %d", cost, maxHashCost)
		}
		a.hash = []byte(u.PasswordHash)
		return a, nil
	}
	var err error
	if a.password, err = passwordfile.Read(u.PasswordFile); err != nil {
		return a, fmt.Errorf("cannot read its password_file: %w", err)
	}
	return a, nil
}
