// Package signed signs and verifies messages of a dominion, by a key (ES256) or by
// a secret that two sides share (HMAC-SHA-256).
//
// A signed message is a JSON object that ends in exactly
//
//	,"signature":"<86 characters of base64url>"}
//
// and one with a MAC in exactly
//
//	,"mac":"<43 characters of base64url>"}
//
// Both endings have a fixed length. A verifier cuts them by length and never decodes
// them, so the bytes that are verified are the bytes that are decoded. What is
// signed begins with the kind of the message, the dominion and the domain: a message
// counts nowhere but where it was meant to.
//
// It knows no topics, no certificates and no clock, and imports the standard library
// alone.
package signed

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Context is what a message is signed for, besides its payload.
type Context struct {
	// Kind is the name of the message in docs/protocol.md.
	Kind string
	// Dominion is the id of the dominion.
	Dominion string
	// Domain is the id of the domain, "" for a message to all.
	Domain string
}

const (
	signatureSize   = 64 // r and s of P-256
	macSize         = sha256.Size
	signaturePrefix = `,"signature":"`
	macPrefix       = `,"mac":"`
	suffix          = `"}`
)

// encoding refuses bits after the last byte: one signature has one text.
var encoding = base64.RawURLEncoding.Strict()

// The lengths of the endings.
var (
	signatureEnd = len(signaturePrefix) + encoding.EncodedLen(signatureSize) + len(suffix)
	macEnd       = len(macPrefix) + encoding.EncodedLen(macSize) + len(suffix)
)

// Errors of messages that are not verified.
var (
	// ErrUnsigned means that a message does not have the ending of a signed one.
	ErrUnsigned = errors.New("it is not signed")
	// ErrSignature means that the signature or MAC is not of this message, context and key.
	ErrSignature = errors.New("its signature is not valid")
)

// preimage returns what is signed: the context in lines, and the body.
func (c Context) preimage(body []byte) ([]byte, error) {
	head, err := c.appendHead(make([]byte, 0, len(version)+len(c.Kind)+len(c.Dominion)+len(c.Domain)+3+len(body)))
	if err != nil {
		return nil, err
	}
	return append(head, body...), nil
}

// version begins what is signed.
const version = "dominion 1\n"

// appendHead appends what is signed before the body: the context in lines.
func (c Context) appendHead(b []byte) ([]byte, error) {
	for _, part := range [...]struct{ name, value string }{{"kind", c.Kind}, {"dominion", c.Dominion}, {"domain", c.Domain}} {
		if strings.ContainsAny(part.value, "\n\r\x00") || part.value == "" && part.name != "domain" {
			return nil, fmt.Errorf("cannot sign or verify a message: %.60q is not a valid %s", part.value, part.name)
		}
	}
	b = append(b, version...)
	for _, line := range [...]string{c.Kind, c.Dominion, c.Domain} {
		b = append(append(b, line...), '\n')
	}
	return b, nil
}

// open returns a payload without its last brace. An empty object cannot be signed: the
// ending begins with a comma.
func open(payload []byte) ([]byte, error) {
	n := len(payload)
	if n < 3 || payload[0] != '{' || payload[n-1] != '}' || len(bytes.TrimSpace(payload[1:n-1])) == 0 {
		return nil, errors.New("cannot sign a message: its payload must be a JSON object with at least one member and nothing around it")
	}
	return payload[:n-1], nil
}

// Sign returns a payload, a JSON object, as a signed message. The same payload, context
// and key give the same bytes (RFC 6979).
func Sign(key *ecdsa.PrivateKey, c Context, payload []byte) ([]byte, error) {
	body, err := open(payload)
	if err != nil {
		return nil, err
	}
	text, err := c.preimage(body)
	if err != nil {
		return nil, err
	}
	signature, err := SignBytes(key, text)
	if err != nil {
		return nil, err
	}
	return closed(body, signaturePrefix, signature), nil
}

// closed appends an ending to a body.
func closed(body []byte, prefix string, value []byte) []byte {
	message := make([]byte, 0, len(body)+len(prefix)+encoding.EncodedLen(len(value))+len(suffix))
	message = append(append(message, body...), prefix...)
	message = encoding.AppendEncode(message, value)
	return append(message, suffix...)
}

// Verify returns the payload of a signed message, without its signature, if it was
// signed by the key for this context. Nothing of the message was decoded before.
func Verify(key *ecdsa.PublicKey, c Context, message []byte) ([]byte, error) {
	body, signature, err := cut(message, signaturePrefix, signatureEnd)
	if err != nil {
		return nil, err
	}
	text, err := c.preimage(body)
	if err != nil {
		return nil, err
	}
	if !VerifyBytes(key, text, signature) {
		return nil, ErrSignature
	}
	return payloadOf(body), nil
}

// cut splits a message into its body and the value of its ending.
func cut(message []byte, prefix string, end int) (body, value []byte, err error) {
	value = make([]byte, encoding.DecodedLen(end-len(prefix)-len(suffix)))
	body, err = cutInto(value, message, prefix, end)
	if err != nil {
		return nil, nil, err
	}
	return body, value, nil
}

// cutInto is cut with room for the value, which has its length.
func cutInto(value, message []byte, prefix string, end int) (body []byte, err error) {
	n := len(message) - end
	if n < 2 || message[0] != '{' {
		return nil, ErrUnsigned
	}
	ending := message[n:]
	if string(ending[:len(prefix)]) != prefix || string(ending[end-len(suffix):]) != suffix {
		return nil, ErrUnsigned
	}
	text := ending[len(prefix) : end-len(suffix)]
	// The decoder skips line ends.
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 {
		return nil, ErrUnsigned
	}
	if _, err := encoding.Decode(value, text); err != nil {
		return nil, ErrUnsigned
	}
	return message[:n], nil
}

// payloadOf returns a body as the JSON object that was signed.
func payloadOf(body []byte) []byte {
	return append(append(make([]byte, 0, len(body)+1), body...), '}')
}

// Unverified returns the payload of a message that has the ending of a signed one or
// of one with a MAC, without verifying it. It is for comparing ids and numbers of what is not
// worth a verification: nothing else may be done with it.
func Unverified(message []byte) ([]byte, error) {
	if body, _, err := cut(message, signaturePrefix, signatureEnd); err == nil {
		return payloadOf(body), nil
	}
	body, _, err := cut(message, macPrefix, macEnd)
	if err != nil {
		return nil, err
	}
	return payloadOf(body), nil
}

// IsSigned reports whether a message has the ending of a signed one. It was not verified.
func IsSigned(message []byte) bool {
	_, _, err := cut(message, signaturePrefix, signatureEnd)
	return err == nil
}

// HasMAC reports whether a message has the ending of one with a MAC. It was not verified.
func HasMAC(message []byte) bool {
	_, _, err := cut(message, macPrefix, macEnd)
	return err == nil
}

// SignBytes returns the signature r‖s of ES256, 64 bytes, deterministic by RFC 6979.
func SignBytes(key *ecdsa.PrivateKey, text []byte) ([]byte, error) {
	if key.Curve != elliptic.P256() {
		return nil, errors.New("cannot sign: the key is not of the curve P-256")
	}
	digest := sha256.Sum256(text)
	der, err := key.Sign(nil, digest[:], crypto.SHA256) // nil: RFC 6979
	if err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	signature := make([]byte, signatureSize)
	pair.R.FillBytes(signature[:signatureSize/2])
	pair.S.FillBytes(signature[signatureSize/2:])
	return signature, nil
}

// VerifyBytes reports whether a signature r‖s is of the text by the key.
func VerifyBytes(key *ecdsa.PublicKey, text, signature []byte) bool {
	if key == nil || key.Curve != elliptic.P256() || len(signature) != signatureSize {
		return false
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(signature[:signatureSize/2]), new(big.Int).SetBytes(signature[signatureSize/2:]),
	})
	if err != nil {
		return false
	}
	digest := sha256.Sum256(text)
	return ecdsa.VerifyASN1(key, digest[:], der)
}
