package devices

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// A key is one name of a device, written in one way only, whoever writes it.
// Announcements that share a key are of one device. Its first letter is its
// rank: the least key of a device names it.
type key string

// The kinds of keys, strongest first. An address that a radio or a network card
// has is the same in each announcement of a device, so what names the device
// does not depend on who announces it.
const (
	keyMAC    = "a" // 12 hexadecimal digits
	keyIEEE   = "b" // 0x and 16 hexadecimal digits, a Zigbee address
	keyOther  = "c" // another connection: type, a space, address
	keyIdent  = "d" // an identifier, as it is
	macLength = 12
	ieee      = 16
)

// keyOfMAC returns the key of a network card's address, with or without
// separators, in any case.
func keyOfMAC(s string) (key, bool) {
	digits, ok := hexDigits(s)
	if !ok || len(digits) != macLength || strings.Trim(digits, "0") == "" || strings.Trim(digits, "f") == "" {
		return "", false // nobody has the address of nobody, nor that of all
	}
	return key(keyMAC + digits), true
}

// keyOfIEEE returns the key of a Zigbee address: 0x0123456789abcdef, or in
// pairs of digits with separators.
func keyOfIEEE(s string) (key, bool) {
	digits, ok := hexDigits(strings.TrimPrefix(strings.ToLower(s), "0x"))
	if !ok || len(digits) != ieee || strings.Trim(digits, "0") == "" || strings.Trim(digits, "f") == "" {
		return "", false
	}
	return key(keyIEEE + "0x" + digits), true
}

// hexDigits returns s in lower case without the separators of addresses.
func hexDigits(s string) (string, bool) {
	if len(s) > 3*ieee {
		return "", false
	}
	digits := strings.Map(func(r rune) rune {
		if r == ':' || r == '-' || r == '.' {
			return -1
		}
		if r >= 'A' && r <= 'F' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
	return digits, digits != "" && strings.Trim(digits, "0123456789abcdef") == ""
}

// zigbee is how Zigbee2MQTT writes the address of a device, or of its own
// stick, as an identifier for Home Assistant.
var zigbee = regexp.MustCompile(`^(?:zigbee2mqtt_(?:bridge_)?)?(0x[0-9a-fA-F]{16})$`)

// keyOfIdentifier returns the key of an identifier. One that is an address is
// the same as that address as a connection: ESPHome writes both.
func keyOfIdentifier(s string) key {
	if k, ok := keyOfMAC(s); ok {
		return k
	}
	if m := zigbee.FindStringSubmatch(s); m != nil {
		if k, ok := keyOfIEEE(m[1]); ok {
			return k
		}
	}
	return key(keyIdent + short(s))
}

// keyOfConnection returns the key of a connection as Home Assistant's device
// registry has them: a type and an address.
func keyOfConnection(typ, address string) key {
	switch typ {
	case "mac":
		if k, ok := keyOfMAC(address); ok {
			return k
		}
	case "zigbee":
		if k, ok := keyOfIEEE(address); ok {
			return k
		}
	}
	return key(keyOther + short(typ) + " " + short(strings.ToLower(address)))
}

// short returns a text that stands for s in a key: s itself on one line, and of
// one that is too long to be stored its beginning and a hash of all of it.
func short(s string) string {
	if len(s) <= maxIdent {
		return cut(s, maxIdent)
	}
	sum := sha256.Sum256([]byte(s))
	return cut(s, maxIdent) + hex.EncodeToString(sum[:])
}

// id returns the id of a device whose strongest key is k: a level of a topic,
// readable as far as that goes. Addresses are their own id; what people chose
// has a part of its hash behind it, because other texts read the same.
func (k key) id() string {
	rest := string(k[1:])
	switch k[:1] {
	case keyMAC, keyIEEE:
		return rest
	}
	const longest = 40
	label := topics.NameFromHost(strings.ReplaceAll(rest, ".", "-"))
	label = strings.Trim(label[:min(len(label), longest)], "-")
	sum := sha256.Sum256([]byte(k))
	return label + "-" + hex.EncodeToString(sum[:6])
}
