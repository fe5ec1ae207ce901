package devices

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// reader walks through a JSON document whose author is not trusted. It keeps
// nothing of what nobody asks for, gives up where the document nests deeper
// than any announcement does, and hands out texts that are cut to a length. Keys
// are compared exactly, as those who read announcements elsewhere do.
type reader struct {
	d    *json.Decoder
	deep int
}

// deepest is how deep an announcement may nest. Zigbee2MQTT's lists nest ten
// levels, where an option of a feature of a light is described.
const deepest = 40

var errDeep = fmt.Errorf("it nests deeper than %d levels", deepest)

// read walks through the one value of a payload.
func read(payload []byte, take func(*reader) error) error {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := take(&reader{d: d}); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its JSON")
	}
	return nil
}

// readObject is read for a payload that has to be an object.
func readObject(payload []byte, member func(r *reader, key string) error) error {
	return read(payload, func(r *reader) error {
		is, err := r.object(func(key string) error { return member(r, key) })
		if err == nil && !is {
			err = errors.New("it is not an object")
		}
		return err
	})
}

func (r *reader) next() (json.Token, error) {
	t, err := r.d.Token()
	if err != nil {
		return nil, wrong(err)
	}
	switch t {
	case json.Delim('{'), json.Delim('['):
		if r.deep++; r.deep > deepest {
			return nil, errDeep
		}
	case json.Delim('}'), json.Delim(']'):
		r.deep--
	}
	return t, nil
}

// wrong is the error about invalid JSON.
func wrong(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("its JSON ends too early")
	}
	return fmt.Errorf("it is no JSON: %s", cut(err.Error(), maxText))
}

// object hands each key to member, which reads its value or skips it. What is
// no object is skipped, and is false.
func (r *reader) object(member func(key string) error) (bool, error) {
	t, err := r.next()
	if err != nil {
		return false, err
	}
	return r.objectFrom(t, member)
}

// objectFrom is object for a value that began with t.
func (r *reader) objectFrom(t json.Token, member func(key string) error) (bool, error) {
	if t != json.Delim('{') {
		return false, r.skipFrom(t)
	}
	return true, r.elements(func() error {
		key, err := r.next()
		if err != nil {
			return err
		}
		name, _ := key.(string) // the decoder takes nothing else there
		return member(name)
	})
}

// list hands the beginning of each element to element. What is not a list is
// skipped, and is false.
func (r *reader) list(element func(t json.Token) error) (bool, error) {
	t, err := r.next()
	if err != nil {
		return false, err
	}
	if t != json.Delim('[') {
		return false, r.skipFrom(t)
	}
	return true, r.listFrom(element)
}

// listOrOne is list for what may be written without brackets where it is one.
func (r *reader) listOrOne(element func(t json.Token) error) error {
	t, err := r.next()
	if err != nil {
		return err
	}
	if t == json.Delim('[') {
		return r.listFrom(element)
	}
	return element(t)
}

func (r *reader) listFrom(element func(t json.Token) error) error {
	return r.elements(func() error {
		t, err := r.next()
		if err != nil {
			return err
		}
		return element(t)
	})
}

// elements reads up to the end of what has been opened.
func (r *reader) elements(each func() error) error {
	for r.d.More() {
		if err := each(); err != nil {
			return err
		}
	}
	_, err := r.next()
	return err
}

// skip leaves a value out. Most of what Zigbee2MQTT lists is left out, so this
// is quick.
func (r *reader) skip() error {
	if err := r.d.Decode(new(nothing)); err != nil {
		return wrong(err)
	}
	return nil
}

// nothing is what is stored of a value that is not used.
type nothing struct{}

func (*nothing) UnmarshalJSON([]byte) error { return nil }

// skipFrom leaves out what follows of a value that began with t.
func (r *reader) skipFrom(t json.Token) error {
	if t != json.Delim('{') && t != json.Delim('[') {
		return nil
	}
	for outside := r.deep - 1; r.deep > outside; {
		if _, err := r.next(); err != nil {
			return err
		}
	}
	return nil
}

// text reads a text, or a number or truth value as one writes it; "" for
// anything else.
func (r *reader) text() (string, error) {
	t, err := r.next()
	if err != nil {
		return "", err
	}
	return r.textFrom(t)
}

// textFrom is text for a value that began with t.
func (r *reader) textFrom(t json.Token) (string, error) {
	switch v := t.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", r.skipFrom(t)
}

// pythonText is text as Home Assistant reads what is not a text where one should be:
// true is "True".
func (r *reader) pythonText() (string, error) {
	t, err := r.next()
	if err != nil {
		return "", err
	}
	if v, is := t.(bool); is {
		if v {
			return "True", nil
		}
		return "False", nil
	}
	return r.textFrom(t)
}

// texts hands on each text of a list, or the single one without brackets.
func (r *reader) texts(take func(string) error) error {
	return r.listOrOne(func(t json.Token) error {
		s, err := r.textFrom(t)
		if err != nil {
			return err
		}
		return take(s)
	})
}

// The longest texts that are stored, in bytes.
const (
	maxText  = 128
	maxTopic = 256
	maxIdent = 128
)

// cut returns a copy of s that keeps nothing of a longer text alive, on one
// line, at most limit bytes long.
func cut(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit-len("…")]
		for len(s) > 0 && !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Clone(strings.TrimSpace(s))
}
