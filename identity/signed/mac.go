package signed

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
)

// MAC makes and verifies MACs by one key. It is made once for a key and used for each
// message: after the first message it allocates nothing but what it returns. It is not safe
// for concurrent use. Make it with NewMAC.
type MAC struct {
	hash hash.Hash
	// head is room for the context of a message, got for the MAC that a message has, and
	// want for the one that it must have.
	head      []byte
	got, want [macSize]byte
}

// NewMAC returns a MAC by a key that both sides have. A key that is too short is a fault of
// the program: a MAC with no key would be anybody's.
func NewMAC(key []byte) (*MAC, error) {
	if len(key) < macSize {
		return nil, fmt.Errorf("cannot make or verify a MAC: its key has %d bytes, want %d", len(key), macSize)
	}
	return &MAC{hash: hmac.New(sha256.New, key)}, nil
}

// sum sets want to the MAC of a body.
func (m *MAC) sum(c Context, body []byte) error {
	head, err := c.appendHead(m.head[:0])
	if err != nil {
		return err
	}
	m.head = head
	m.hash.Reset()
	m.hash.Write(head)
	m.hash.Write(body)
	m.hash.Sum(m.want[:0])
	return nil
}

// Append returns a payload, a JSON object, as a message with a MAC.
func (m *MAC) Append(c Context, payload []byte) ([]byte, error) {
	body, err := open(payload)
	if err != nil {
		return nil, err
	}
	if err := m.sum(c, body); err != nil {
		return nil, err
	}
	return closed(body, macPrefix, m.want[:]), nil
}

// Verify returns the payload of a message with a MAC, without its MAC, if that was made with
// the key for this context. The payload is in room, if that is large enough.
func (m *MAC) Verify(room []byte, c Context, message []byte) ([]byte, error) {
	body, err := cutInto(m.got[:], message, macPrefix, macEnd)
	if err != nil {
		return nil, err
	}
	if err := m.sum(c, body); err != nil {
		return nil, err
	}
	if !hmac.Equal(m.got[:], m.want[:]) {
		return nil, ErrSignature
	}
	return append(append(room[:0], body...), '}'), nil
}

// AppendMAC is MAC.Append by a key that is used once.
func AppendMAC(key []byte, c Context, payload []byte) ([]byte, error) {
	m, err := NewMAC(key)
	if err != nil {
		return nil, err
	}
	return m.Append(c, payload)
}

// VerifyMAC is MAC.Verify by a key that is used once.
func VerifyMAC(key []byte, c Context, message []byte) ([]byte, error) {
	m, err := NewMAC(key)
	if err != nil {
		return nil, err
	}
	return m.Verify(nil, c, message)
}
