package adoption

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// TokenUse is what a token lets join: a domain or a hub, never both.
type TokenUse string

// The uses of tokens.
const (
	ForDomain TokenUse = "domain"
	ForHub    TokenUse = "hub"
)

// Token lets one machine join without a person beside it. It names the authority, so that the machine
// checks the hub before it sends anything, and has a seed of a key that never leaves it.
type Token struct {
	// Authority is SHA-256 of the authority's public key (SubjectPublicKeyInfo).
	Authority [sha256.Size]byte
	Use       TokenUse
	// Addresses are where hubs of the dominion are reached: HOST or HOST:PORT.
	Addresses []string

	seed [seedSize]byte
}

const (
	seedSize     = 16 // 128 bits
	checkSize    = 4
	tokenPrefix  = "dominion1_"
	maxAddresses = 8
	maxToken     = 4096
)

// NewToken makes a token.
func NewToken(authority [sha256.Size]byte, use TokenUse, addresses ...string) (Token, error) {
	t := Token{Authority: authority, Use: use, Addresses: addresses}
	rand.Read(t.seed[:])
	if err := t.check(); err != nil {
		return Token{}, fmt.Errorf("cannot make a token: %w", err)
	}
	return t, nil
}

func (t Token) check() error {
	if t.Use != ForDomain && t.Use != ForHub {
		return fmt.Errorf("%.20q is not a use: domain or hub", t.Use)
	}
	if len(t.Addresses) > maxAddresses {
		return fmt.Errorf("it has %d addresses, at most %d are allowed", len(t.Addresses), maxAddresses)
	}
	for _, a := range t.Addresses {
		if !topics.ValidAddress(a) && !topics.ValidEndpoint(a) {
			return fmt.Errorf("%.80q is not an address", a)
		}
	}
	return nil
}

// A token's text is tokenPrefix and base64url of: version 1, use, authority, seed, the number
// of addresses, each address with its length, and the first bytes of SHA-256 of all
// that, which find a text that was cut or mistyped.

const tokenVersion = 1

// String returns the token as one word.
func (t Token) String() string {
	use := byte('d')
	if t.Use == ForHub {
		use = 'h'
	}
	b := append([]byte{tokenVersion, use}, t.Authority[:]...)
	b = append(append(b, t.seed[:]...), byte(len(t.Addresses)))
	for _, a := range t.Addresses {
		b = append(append(b, byte(len(a))), a...)
	}
	sum := sha256.Sum256(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:checkSize]...))
}

// ParseToken reads a token. Space around it does not matter. No error repeats it: it is secret.
func ParseToken(text string) (Token, error) {
	t, err := parseToken(strings.TrimSpace(text))
	if err != nil {
		return Token{}, fmt.Errorf("cannot read the token: %w: make a new one with dominionctl token create", err)
	}
	return t, nil
}

func parseToken(text string) (t Token, err error) {
	encoded, is := strings.CutPrefix(text, tokenPrefix)
	if !is || len(text) > maxToken || strings.ContainsAny(encoded, "\r\n") {
		return t, errors.New("it does not begin with " + tokenPrefix + " or is longer than a token")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < 2+sha256.Size+seedSize+1+checkSize {
		return t, errors.New("it is cut or mistyped")
	}
	sum := sha256.Sum256(b[:len(b)-checkSize])
	if string(sum[:checkSize]) != string(b[len(b)-checkSize:]) {
		return t, errors.New("it is cut or mistyped")
	}
	if b[0] != tokenVersion {
		return t, fmt.Errorf("it is of version %d, this program reads version %d", b[0], tokenVersion)
	}
	switch b[1] {
	case 'd':
		t.Use = ForDomain
	case 'h':
		t.Use = ForHub
	}
	b = b[2 : len(b)-checkSize]
	b = b[copy(t.Authority[:], b):]
	b = b[copy(t.seed[:], b):]
	n := int(b[0])
	for b = b[1:]; n > 0 && len(b) > 0 && len(b) > int(b[0]); n-- {
		t.Addresses = append(t.Addresses, string(b[1:1+b[0]]))
		b = b[1+b[0]:]
	}
	if n != 0 || len(b) != 0 {
		return t, errors.New("its addresses cannot be read")
	}
	return t, t.check()
}

// key returns the private key of the token. It depends on the use and the authority, so that a
// domain's token is never one for a hub.
func (t Token) key() ed25519.PrivateKey {
	info := "dominion token 1\n" + string(t.Use) + "\n" + string(t.Authority[:])
	seed, err := hkdf.Key(sha256.New, t.seed[:], nil, info, ed25519.SeedSize)
	if err != nil {
		panic("adoption: " + err.Error()) // only for lengths that are too great
	}
	return ed25519.NewKeyFromSeed(seed)
}

// PublicKey returns what the hub stores of the token.
func (t Token) PublicKey() ed25519.PublicKey {
	return t.key().Public().(ed25519.PublicKey)
}

// sign returns the token's signature of a transcript.
func (t Token) sign(transcript []byte) []byte {
	return ed25519.Sign(t.key(), labelled(tokenLabel, transcript))
}

// LocalTokenFile is the name of the file in data_dir/identity with the token for the hub's own machine.
const LocalTokenFile = "local-token"

// BootTokenFiles are where a person puts a token on the card of a machine before its first start.
// The agent removes it after use.
var BootTokenFiles = []string{"/boot/firmware/dominion-token", "/boot/dominion-token"}

// WriteTokenFile writes a token to a file that its owner alone can read.
func WriteTokenFile(path string, t Token) error {
	if err := atomicfile.Write(path, []byte(t.String()+"\n"), 0o600); err != nil {
		return err
	}
	// The former one was used.
	if err := os.Remove(path + atomicfile.Previous); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the former token: %w", err)
	}
	return nil
}

// ReadTokenFile reads a token from a file.
func ReadTokenFile(path string) (Token, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Token{}, fmt.Errorf("cannot read the token: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxToken {
		return Token{}, fmt.Errorf("cannot read the token: %s is not a file of at most %d bytes", path, maxToken)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Token{}, fmt.Errorf("cannot read the token: %w", err)
	}
	t, err := ParseToken(string(text))
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}
