// Package secrets stores the values that services get as secrets, and seals each to the one domain
// that runs the service, so that neither broker, log nor another domain sees it.
//
// A hub has a Vault: values are encrypted with a key in data_dir/identity. A domain has an
// age identity, whose recipient is part of its join; a sealed value has dominion, domain, service
// and name inside, and is opened for these alone. A revision of a value is an HMAC by
// a key of the hub: it tells that a value has changed, and nothing about it.
package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// MaxValue is the longest value, in bytes.
const MaxValue = topics.MaxSecret

// maxSealed bounds what is opened: a value in JSON and base64, and what age adds.
const maxSealed = 8 * MaxValue

func checkName(name string) error {
	if !topics.ValidID(name) {
		return fmt.Errorf("%.80q is not a valid name of a secret: use letters, digits, . _ and -, 64 characters at most", name)
	}
	return nil
}

func checkValue(value []byte) error {
	if len(value) == 0 || len(value) > MaxValue || bytes.IndexByte(value, 0) >= 0 {
		return fmt.Errorf("the value must have 1 to %d bytes and no NUL", MaxValue)
	}
	return nil
}

// Context is whom a value is sealed for.
type Context struct {
	// Dominion and Domain are ids, Service and Name are names: of the service, and of the secret.
	Dominion, Domain, Service, Name string
}

// sealed is what is inside a sealed value.
type sealed struct {
	Dominion string `json:"dominion"`
	Domain   string `json:"domain"`
	Service  string `json:"service"`
	Name     string `json:"name"`
	Value    []byte `json:"value"`
}

// Errors of sealed values.
var (
	// ErrOtherContext means that a value was sealed for another domain, service or name.
	ErrOtherContext = errors.New("it is sealed for something else")
	// ErrCannotOpen means that a value is damaged, or sealed to another domain's identity.
	ErrCannotOpen = errors.New("it is damaged, or sealed to another machine")
)

// Seal seals a value to the recipient of a domain. Two seals of one value differ.
func Seal(recipient string, c Context, value []byte) (string, error) {
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return "", fmt.Errorf("cannot seal secret %s to domain %s: %w", c.Name, c.Domain, err)
	}
	if err := checkValue(value); err != nil {
		return "", fmt.Errorf("cannot seal secret %s: %w", c.Name, err)
	}
	inside, err := json.Marshal(sealed{c.Dominion, c.Domain, c.Service, c.Name, value})
	if err != nil {
		return "", fmt.Errorf("cannot seal secret %s: %w", c.Name, err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err == nil {
		_, err = w.Write(inside)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("cannot seal secret %s: %w", c.Name, err)
	}
	return base64.RawStdEncoding.EncodeToString(out.Bytes()), nil
}

// Identity is what a domain opens sealed values with.
type Identity struct{ key *age.X25519Identity }

// File is the name of the file of a domain's age identity in data_dir/identity.
const File = "age.key"

// OpenIdentity reads the age identity of a domain, and makes it if there is none. known
// reports whether the domain was adopted with one: it is then lost if it is missing.
func OpenIdentity(store *identity.Store, known bool) (*Identity, error) {
	var i Identity
	_, err := store.Secret(File, known,
		func(text []byte) (err error) {
			i.key, err = age.ParseX25519Identity(strings.TrimSpace(string(text)))
			if err != nil {
				return errors.New("it is not an age identity") // the error of age repeats it
			}
			return nil
		},
		func() (text []byte, err error) {
			if i.key, err = age.GenerateX25519Identity(); err != nil {
				return nil, fmt.Errorf("cannot make an age identity: %w", err)
			}
			return []byte(i.key.String() + "\n"), nil
		})
	if err != nil {
		return nil, err
	}
	return &i, nil
}

// Recipient returns what values are sealed to.
func (i *Identity) Recipient() string { return i.key.Recipient().String() }

// Open opens a value that was sealed to this identity for this context.
func (i *Identity) Open(c Context, text string) ([]byte, error) {
	value, err := i.open(c, text)
	if err != nil {
		return nil, fmt.Errorf("cannot open secret %s of service %s: %w", c.Name, c.Service, err)
	}
	return value, nil
}

func (i *Identity) open(c Context, text string) ([]byte, error) {
	if len(text) > maxSealed || strings.ContainsAny(text, "\r\n") {
		return nil, ErrCannotOpen
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, ErrCannotOpen
	}
	r, err := age.Decrypt(bytes.NewReader(b), i.key)
	if err != nil {
		return nil, ErrCannotOpen
	}
	inside, err := io.ReadAll(r)
	if err != nil || signed.CheckNames[sealed](inside) != nil {
		return nil, ErrCannotOpen
	}
	var s sealed
	if err := json.Unmarshal(inside, &s); err != nil {
		return nil, ErrCannotOpen
	}
	if (Context{s.Dominion, s.Domain, s.Service, s.Name}) != c {
		return nil, ErrOtherContext
	}
	if err := checkValue(s.Value); err != nil {
		return nil, err
	}
	return s.Value, nil
}
