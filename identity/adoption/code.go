package adoption

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// Code is what a person carries from a domain to a hub: 12 characters of Crockford's
// base32 in upper case, without hyphens. 60 bits.
type Code string

const (
	alphabet   = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	codeLength = 12
)

// NewCode makes a code.
func NewCode() Code {
	var b [codeLength]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = alphabet[b[i]%32] // 256 is a multiple of 32: each is as likely
	}
	return Code(b[:])
}

// ParseCode reads a code as people type it: case, hyphens and spaces do not matter, O is 0, I and L are 1.
func ParseCode(s string) (Code, error) {
	var b strings.Builder
	for _, r := range strings.ToUpper(s) {
		switch r {
		case '-', ' ', '\t', '\r', '\n', '–', '‑':
			continue
		case 'O':
			r = '0'
		case 'I', 'L':
			r = '1'
		}
		if !strings.ContainsRune(alphabet, r) || b.Len() == codeLength {
			return "", errBadCode
		}
		b.WriteRune(r)
	}
	if b.Len() != codeLength {
		return "", errBadCode
	}
	return Code(b.String()), nil
}

// errBadCode does not repeat what was typed: it may be nearly the code.
var errBadCode = errors.New(`cannot read the code: it has 12 letters and digits, as K7QF-2M9X-4T1R; "domain code" shows it on the machine`)

// String returns the code as it is shown: K7QF-2M9X-4T1R.
func (c Code) String() string {
	if len(c) != codeLength {
		return ""
	}
	return string(c[:4] + "-" + c[4:8] + "-" + c[8:])
}

// CodeKey is the key of a code for one domain's key.
type CodeKey []byte

// Key derives the key of a code, for the domain whose encoded public key is given. It takes
// 19 MiB and up to some seconds on a small machine: compute it once for a code, beside the loop.
func (c Code) Key(publicKey []byte) CodeKey {
	salt := sha256.Sum256(publicKey)
	return argon2.IDKey([]byte(c), salt[:], 2, 19*1024, 1, sha256.Size)
}

// Labels of proofs and signatures: what one side sends is never valid from the other.
const (
	questionLabel = "dominion adopt 1 question"
	hubLabel      = "dominion adopt 1 hub"
	domainLabel   = "dominion adopt 1 domain"
	tokenLabel    = "dominion adopt 1 token"
	joinedLabel   = "dominion adopt 1 joined"
	confirmLabel  = "dominion adopt 1 confirm"
)

// prove returns the HMAC of a transcript by the key of a code.
func (k CodeKey) prove(label string, transcript []byte) []byte {
	h := hmac.New(sha256.New, k)
	h.Write([]byte(label))
	h.Write(transcript)
	return h.Sum(nil)
}

// proves reports, in constant time, whether a proof is of a transcript. A key that is missing proves nothing.
func (k CodeKey) proves(label string, transcript, proof []byte) bool {
	return len(k) == sha256.Size && hmac.Equal(k.prove(label, transcript), proof)
}

// transcript returns SHA-256 of what both sides say, each part with its length before it.
func transcript(q Question, a Answer) []byte {
	var leaf []byte
	if len(a.Certificate) > 0 {
		leaf = a.Certificate[0]
	}
	return hashParts([]byte(q.Protocol), []byte(q.ID), []byte(q.Name), q.Key, []byte(q.Recipient), q.Ephemeral, q.Nonce,
		[]byte(a.Dominion), a.Authority, leaf, a.Ephemeral, a.Nonce, a.Grant)
}

// hashParts returns SHA-256 of parts, each with its length in 4 bytes before it.
func hashParts(parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	return h.Sum(nil)
}

// codeFile is the content of the file of a code.
type codeFile struct {
	Code Code `json:"code"`
}

// CodeFile is the name of the file of a domain's code in data_dir/identity.
const CodeFile = "code.json"

// OpenCode reads the code of a file, and makes one if there is none or it is damaged.
func OpenCode(path string) (Code, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot read the code: %w", err)
	}
	var f codeFile
	if err == nil && json.Unmarshal(text, &f) == nil {
		if c, err := ParseCode(string(f.Code)); err == nil {
			return c, nil
		}
	}
	return ReplaceCode(path)
}

// ReplaceCode writes a new code to a file: after an adoption, and for domain code --new.
func ReplaceCode(path string) (Code, error) {
	c := NewCode()
	if err := atomicfile.WriteJSON(path, codeFile{c}); err != nil {
		return "", err
	}
	// The former code is over: it is not in the backup either.
	if err := os.Remove(path + atomicfile.Previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot remove the former code: %w", err)
	}
	return c, nil
}
