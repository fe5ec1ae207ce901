package secrets

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
)

const (
	// VaultFile is the name of the file of a hub's vault in data_dir/identity.
	VaultFile = "secrets.json"
	// keyFile is the name of the file of the vault's key in data_dir/identity.
	keyFile = "secrets.key"
	keySize = 32
	// maxSecrets bounds how many there are.
	maxSecrets = 1024
)

// Vault stores the secrets of a dominion, encrypted. Values are decrypted when they are sealed, and
// not held in memory. It has one owner at a time; Set, Remove, Forget and Save write the file.
type Vault struct {
	path   string
	cipher cipher.AEAD
	macKey []byte
	state  state
	// revisions are those of the values that can be read, by name.
	revisions map[string]string
	// locked is why the values cannot be read, as the key is lost; nil: they can.
	locked error
	dirty  bool
}

// state is the content of the vault's file.
type state struct {
	Secrets map[string]entry `json:"secrets"`
	// Removed are the last revisions of secrets that were removed: what runs with one goes on.
	Removed map[string]string `json:"removed,omitempty"`
	// Seals are what domains have or have had, by domain, service and name.
	Seals map[string]seal `json:"seals"`
}

// entry is a stored value.
type entry struct {
	// Value is a nonce and the encrypted value.
	Value    []byte    `json:"value"`
	Revision string    `json:"revision"`
	Changed  time.Time `json:"changed"`
}

// seal is a value as it was sealed to a domain.
type seal struct {
	Domain  string `json:"domain"`
	Service string `json:"service"`
	Name    string `json:"name"`
	// Dominion, Recipient and Revision say for what Sealed was made: another one calls for another seal.
	Dominion  string `json:"dominion"`
	Recipient string `json:"recipient"`
	Revision  string `json:"revision"`
	Sealed    string `json:"sealed,omitempty"`
}

// Secret is what is listed of a secret: never its value.
type Secret struct {
	Name    string    `json:"name"`
	Changed time.Time `json:"changed"`
}

// ErrUnknown means that there is no secret of a name.
var ErrUnknown = errors.New("there is no such secret: set it with dominionctl secret set")

// OpenVault opens the vault of a file. Its key is in the store. If that is lost while there are
// secrets, the error is an identity.KeyError, and the vault is locked: it has the revisions and
// what was sealed before, and takes and seals no value.
func OpenVault(store *identity.Store, path string, log *slog.Logger) (*Vault, error) {
	s, found, err := atomicfile.ReadJSON[state](path, log)
	if err != nil {
		return nil, err
	}
	v := &Vault{path: path, state: s, revisions: make(map[string]string)}
	if v.state.Secrets == nil {
		v.state.Secrets = make(map[string]entry)
	}
	if v.state.Removed == nil {
		v.state.Removed = make(map[string]string)
	}
	if v.state.Seals == nil {
		v.state.Seals = make(map[string]seal)
	}
	text, err := store.Secret(keyFile, found && len(s.Secrets) > 0,
		func(text []byte) error { _, err := parseKey(text); return err },
		func() ([]byte, error) {
			key := make([]byte, keySize)
			rand.Read(key)
			return []byte(hex.EncodeToString(key) + "\n"), nil
		})
	if err != nil {
		v.locked = err
		for name, e := range v.state.Secrets {
			v.revisions[name] = e.Revision
		}
		return v, err
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	if err := v.useKey(key); err != nil {
		return nil, err
	}
	for name, e := range v.state.Secrets {
		value, err := v.decrypt(name, e)
		if err != nil {
			log.Error(err.Error())
			continue
		}
		v.revisions[name] = v.revision(value)
	}
	return v, nil
}

// useKey derives the keys of encryption and revisions from the key of the vault.
func (v *Vault) useKey(key []byte) error {
	encryption, err := hkdf.Key(sha256.New, key, nil, "dominion secrets 1 encryption", keySize)
	if err != nil {
		return fmt.Errorf("cannot derive the key of the secrets: %w", err)
	}
	if v.macKey, err = hkdf.Key(sha256.New, key, nil, "dominion secrets 1 revision", keySize); err != nil {
		return fmt.Errorf("cannot derive the key of the secrets: %w", err)
	}
	block, err := aes.NewCipher(encryption)
	if err != nil {
		return fmt.Errorf("cannot use the key of the secrets: %w", err)
	}
	if v.cipher, err = cipher.NewGCM(block); err != nil {
		return fmt.Errorf("cannot use the key of the secrets: %w", err)
	}
	return nil
}

// parseKey reads the vault's key.
func parseKey(text []byte) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("it is not a key of %d bytes", keySize)
	}
	return key, nil
}

// Set stores the value of a secret. changed is false if it had this value already.
func (v *Vault) Set(name string, value []byte, now time.Time) (changed bool, err error) {
	if err := errors.Join(checkName(name), checkValue(value)); err != nil {
		return false, fmt.Errorf("cannot set a secret: %w", err)
	}
	if v.locked != nil {
		return false, fmt.Errorf("cannot set secret %s: %w", name, v.locked)
	}
	old, there := v.state.Secrets[name]
	if there {
		if stored, err := v.decrypt(name, old); err == nil && hmac.Equal(stored, value) {
			return false, nil
		}
	} else if len(v.state.Secrets) >= maxSecrets {
		return false, fmt.Errorf("cannot set secret %s: there are %d; remove some", name, maxSecrets)
	}
	nonce := make([]byte, v.cipher.NonceSize())
	rand.Read(nonce)
	revision := v.revision(value)
	v.state.Secrets[name] = entry{v.cipher.Seal(nonce, nonce, value, []byte(name)), revision, now.UTC().Round(0)}
	v.revisions[name] = revision
	delete(v.state.Removed, name)
	v.dropSeals(name)
	return true, v.write()
}

// Remove removes a secret. It stays in what domains have had.
func (v *Vault) Remove(name string) error {
	e, there := v.state.Secrets[name]
	if !there {
		return fmt.Errorf("cannot remove secret %.80s: %w", name, ErrUnknown)
	}
	if len(v.state.Removed) >= maxSecrets {
		clear(v.state.Removed)
	}
	v.state.Removed[name] = e.Revision
	delete(v.state.Secrets, name)
	delete(v.revisions, name)
	v.dropSeals(name)
	return v.write()
}

// dropSeals removes the sealed values of a secret, and remembers who has had it.
func (v *Vault) dropSeals(name string) {
	for key, s := range v.state.Seals {
		if s.Name == name {
			s.Sealed = ""
			v.state.Seals[key] = s
		}
	}
}

// List returns the secrets by name.
func (v *Vault) List() []Secret {
	list := make([]Secret, 0, len(v.state.Secrets))
	for name, e := range v.state.Secrets {
		list = append(list, Secret{name, e.Changed})
	}
	slices.SortFunc(list, func(a, b Secret) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Names returns the names of the secrets that can be sealed.
func (v *Vault) Names() map[string]bool {
	names := make(map[string]bool, len(v.revisions))
	for name := range v.revisions {
		names[name] = true
	}
	return names
}

// decrypt returns the value of an entry.
func (v *Vault) decrypt(name string, e entry) ([]byte, error) {
	n := v.cipher.NonceSize()
	if len(e.Value) < n {
		return nil, fmt.Errorf("cannot read secret %s: it is damaged: set it again", name)
	}
	value, err := v.cipher.Open(nil, e.Value[:n], e.Value[n:], []byte(name))
	if err != nil {
		return nil, fmt.Errorf("cannot read secret %s: it is damaged, or of another key: set it again", name)
	}
	return value, nil
}

// value returns the value of a secret.
func (v *Vault) value(name string) ([]byte, error) {
	e, there := v.state.Secrets[name]
	if !there {
		return nil, fmt.Errorf("cannot read secret %.80s: %w", name, ErrUnknown)
	}
	if v.locked != nil {
		return nil, fmt.Errorf("cannot read secret %s: %w", name, v.locked)
	}
	return v.decrypt(name, e)
}

// revision returns the HMAC of a value.
func (v *Vault) revision(value []byte) string {
	h := hmac.New(sha256.New, v.macKey)
	h.Write(value)
	return hex.EncodeToString(h.Sum(nil))
}

// Revision returns what stands for the value of a secret in the revision of a service: it changes
// when the value does, and is the same after a restart of the hub. Of a secret that is missing
// it is the last one; "": it never had a value.
func (v *Vault) Revision(name string) string {
	if r, is := v.revisions[name]; is {
		return r
	}
	return cmp.Or(v.state.Secrets[name].Revision, v.state.Removed[name])
}

// Seal returns a secret sealed to the recipient of a domain. It is the same text until the
// value, the recipient or the context changes. Save writes what is new.
func (v *Vault) Seal(c Context, recipient string) (string, error) {
	key := strings.Join([]string{c.Domain, c.Service, c.Name}, "/")
	wanted := seal{Domain: c.Domain, Service: c.Service, Name: c.Name, Dominion: c.Dominion, Recipient: recipient, Revision: v.revisions[c.Name]}
	if s := v.state.Seals[key]; s.Sealed != "" {
		text := s.Sealed
		s.Sealed = ""
		if s == wanted {
			return text, nil
		}
	}
	value, err := v.value(c.Name)
	if err != nil {
		return "", err
	}
	if wanted.Sealed, err = Seal(recipient, c, value); err != nil {
		return "", err
	}
	v.state.Seals[key] = wanted
	v.dirty = true
	return wanted.Sealed, nil
}

// HadBy returns the names of the secrets that a domain has or has had: after it is forgotten, these should
// be changed.
func (v *Vault) HadBy(domain string) []string {
	var names []string
	for _, s := range v.state.Seals {
		if s.Domain == domain && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Forget removes what a domain has had.
func (v *Vault) Forget(domain string) error {
	for key, s := range v.state.Seals {
		if s.Domain == domain {
			delete(v.state.Seals, key)
			v.dirty = true
		}
	}
	return v.Save()
}

// HaveHad returns the ids of the domains that have or have had a secret, sorted.
func (v *Vault) HaveHad(name string) []string {
	var ids []string
	for _, s := range v.state.Seals {
		if s.Name == name && !slices.Contains(ids, s.Domain) {
			ids = append(ids, s.Domain)
		}
	}
	slices.Sort(ids)
	return ids
}

// Save writes the vault's file if something is new.
func (v *Vault) Save() error {
	if !v.dirty {
		return nil
	}
	return v.write()
}

func (v *Vault) write() error {
	v.dirty = true // until it is written
	if err := atomicfile.WriteJSON(v.path, v.state); err != nil {
		return err
	}
	// What was removed is not in the backup either.
	if err := os.Remove(v.path + atomicfile.Previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the backup of the secrets: %w", err)
	}
	v.dirty = false
	return nil
}
