package wire

import (
	"errors"
	"strings"
	"testing"
)

func TestFrame(t *testing.T) {
	for _, c := range []struct {
		in         string
		start, end int
		more       bool
		code       byte
	}{
		{in: "", more: true},
		{in: "\x30", more: true},
		{in: "\x30\x80", more: true},
		{in: "\xc0\x00", start: 2, end: 2},
		{in: "\x30\x7f", start: 2, end: 129},
		{in: "\x30\x80\x01", start: 3, end: 131},
		{in: "\x30\xff\xff\xff\x7f", start: 5, end: 5 + MaxRemaining},
		{in: "\x30\xff\xff\xff\xff", code: MalformedPacket},
		{in: "\x30\x80\x00", code: MalformedPacket}, // longer than it need be
	} {
		_, start, end, more, err := Frame([]byte(c.in))
		var fault *Error
		errors.As(err, &fault)
		if start != c.start || end != c.end || more != c.more || (fault != nil) != (c.code != 0) || fault != nil && fault.Code != c.code {
			t.Errorf("% x: %d to %d, more %v, %v", c.in, start, end, more, err)
		}
	}
}

func TestFilters(t *testing.T) {
	for _, f := range []string{"#", "+", "/", "a", "a/#", "+/+/#", "a//b", "$share/g/a/#", "$share/g//", "$SYS/#", " ", "$share"} {
		if !ValidFilter(f) {
			t.Errorf("%q is refused", f)
		}
	}
	for _, f := range []string{"", "a#", "a/#/b", "#/", "a+", "+a/b", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a", "$share/g/a#", "a\x00", strings.Repeat("a", 65536)} {
		if ValidFilter(f) {
			t.Errorf("%q is taken", f)
		}
	}
}

func TestMatches(t *testing.T) {
	for filter, topics := range map[string][2][]string{ // those that match, those that do not
		"#":        {{"a", "/", "a/b"}, {"$SYS/x"}},
		"+":        {{"a", "b"}, {"/", "a/b", "$SYS"}},
		"a/#":      {{"a", "a/", "a/b/c"}, {"b", "ab"}},
		"a/+/#":    {{"a/b", "a/", "a/b/c"}, {"a"}},
		"+/b":      {{"a/b", "/b"}, {"a/b/c", "b", "$a/b"}},
		"$SYS/#":   {{"$SYS", "$SYS/a"}, {"SYS"}},
		"a//b":     {{"a//b"}, {"a/b", "a/x/b"}},
		"a/b":      {{"a/b"}, {"a", "a/b/", "A/b"}},
		"+/+":      {{"/", "a/b"}, {"a"}},
		"sport/+/": {{"sport/a/"}, {"sport/a"}},
	} {
		for i, all := range topics {
			for _, topic := range all {
				if Matches(filter, topic) != (i == 0) {
					t.Errorf("%q and %q: match is %v", filter, topic, i != 0)
				}
			}
		}
	}
}

// A SUBSCRIBE of MQTT 5 without options, which made another codec panic, is malformed.
func TestSubscribeWithoutOptions(t *testing.T) {
	_, err := Decode(Subscribe<<4|2, []byte("\x00\x01\x00\x00\x01a"), V5)
	var fault *Error
	if !errors.As(err, &fault) || fault.Code != MalformedPacket {
		t.Errorf("got %v", err)
	}
}

// An empty password and an empty will payload are accepted.
func TestConnectWithEmptyPasswordAndWill(t *testing.T) {
	pk, err := Decode(Connect<<4, []byte("\x00\x04MQTT\x04\xc6\x00\x3c\x00\x01c\x00\x01w\x00\x00\x00\x01u\x00\x00"), 0)
	if err != nil || !pk.Connect.WillFlag || pk.Connect.WillTopic != "w" || !pk.Connect.PasswordFlag || string(pk.Connect.Username) != "u" {
		t.Errorf("%+v %v", pk.Connect, err)
	}
}
