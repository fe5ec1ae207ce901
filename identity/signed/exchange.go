package signed

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
)

// Keys are the keys of the MACs between a hub and a domain for one session of the agent
// and one run of the hub, one for each direction.
type Keys struct {
	// FromDomain is for what the domain sends: heartbeat and metrics.
	FromDomain []byte
	// FromHub is for what the hub sends: leases.
	FromHub []byte
}

// Exchange is what the keys of a session are bound to.
type Exchange struct {
	Dominion, Domain, Session, Run string
}

// NewEphemeral makes a key for one exchange.
func NewEphemeral() (*ecdh.PrivateKey, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make an ephemeral key: %w", err)
	}
	return key, nil
}

// ParseEphemeral reads the other side's public key: an uncompressed point of P-256, 65 bytes.
func ParseEphemeral(b []byte) (*ecdh.PublicKey, error) {
	key, err := ecdh.P256().NewPublicKey(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read an ephemeral key: %w", err)
	}
	return key, nil
}

// Derive returns the keys of a session by an exchange of P-256. Both sides get the same
// ones. The public keys must have come in messages that were signed.
func (e Exchange) Derive(own *ecdh.PrivateKey, other *ecdh.PublicKey) (Keys, error) {
	shared, err := own.ECDH(other)
	if err != nil {
		return Keys{}, fmt.Errorf("cannot derive the keys of a session: %w", err)
	}
	parts := []string{"dominion 1", "mac", e.Dominion, e.Domain, e.Session, e.Run}
	for _, part := range parts {
		if part == "" || strings.ContainsAny(part, "\n\r\x00") {
			return Keys{}, fmt.Errorf("cannot derive the keys of a session: %.60q is not a valid id", part)
		}
	}
	both, err := hkdf.Key(sha256.New, shared, nil, strings.Join(parts, "\n")+"\n", 2*macSize)
	if err != nil {
		return Keys{}, fmt.Errorf("cannot derive the keys of a session: %w", err)
	}
	return Keys{FromDomain: both[:macSize:macSize], FromHub: both[macSize:]}, nil
}
