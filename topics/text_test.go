package topics_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
	"github.com/jmbarzee/dominion/topics/topicstest"
)

// payloads holds a zero value of each payload that somebody decodes.
func payloads() map[string]any {
	all := make(map[string]any)
	for _, e := range topics.Catalog() {
		if e.Payload != nil {
			all[e.Pattern] = e.Payload
		}
	}
	for _, v := range topics.Verbs() {
		if v.Data != nil {
			all["answer to "+v.Name] = v.Data
		}
	}
	return all
}

// free are the types of text that may hold anything a shell interprets.
var free = map[string]bool{"path": true, "line": true, "value": true, "text": true}

// decode reads a payload as Decode does for its type.
func decode(sample any, payload []byte) error {
	v := reflect.New(reflect.TypeOf(sample))
	if err := json.Unmarshal(payload, v.Interface()); err != nil {
		return err
	}
	return topics.Check(v.Elem().Interface())
}

// No text of a payload is without a type, and none that has an alphabet takes
// what make or a shell would interpret: of each field of each payload, of each
// list and of the keys of each object, also of those that are added later.
func TestHostileTextIsRefusedInEveryField(t *testing.T) {
	n := 0
	for name, sample := range payloads() {
		if err := decode(sample, topics.Encode(topicstest.Filled(reflect.TypeOf(sample)).Interface())); err != nil {
			t.Errorf("%s: its own example is refused: %v", name, err)
		}
		for _, attack := range topicstest.Attacks("F") {
			for _, v := range topicstest.Variants(sample, attack) {
				n++
				known := false
				for _, text := range topics.TextTypes() {
					known = known || text.Name == v.Type
				}
				err := decode(sample, v.Payload)
				field, _, _ := strings.Cut(v.Field, "{")
				switch {
				case !known:
					t.Errorf("%s, field %s: %q is not a type of text", name, v.Field, v.Type)
				case free[v.Type]:
				case err == nil:
					t.Errorf("%s: %q was taken as field %s", name, attack, v.Field)
				case !strings.Contains(err.Error(), "field "+field):
					t.Errorf("%s: the error does not name the field %s: %v", name, v.Field, err)
				}
			}
		}
	}
	if n < 500 {
		t.Errorf("only %d payloads were tried", n)
	}
}

// What is free text is listed here: a field that is added to it must not reach
// the start of a service but as a value of its environment.
func TestFreeTextOfStartCommands(t *testing.T) {
	var got []string
	for _, v := range topicstest.Variants(topics.StartCommand{}, "x") {
		if free[v.Type] {
			got = append(got, v.Field)
		}
	}
	const service = "services.pi-kitchen."
	want := []string{service + "environment.COLOUR", service + "environment_file", service + "health.http", service + "health.mqtt", service + "health.payload"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTextTypes(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, samples := range map[string]struct{ good, bad []string }{
		"address": {
			[]string{"192.168.1.20", "2001:db8::20", "fe80::1%eth0", "fe80::1%wlan0.10", "shed-lamp", "shed-lamp.local", "3com.example", "NAS", long + ".lan", "1.2.3"},
			[]string{"a b", "a_b", "-a", "a-", "a..b", "a.", ".a", long + "a", "[::1]", "::1%eth0", "2001:db8::20%eth0", "fe80::1%$(x)", "fe80::1%", "a:80", strings.Repeat("a.", 130) + "a", "é"},
		},
		"endpoint": {
			[]string{"192.168.1.20:8080", "[fe80::1%eth0]:80", "nas:1"},
			[]string{"nas", "nas:0", "nas:65536", "nas:+1", "nas:http", ":80", "[::1]", "nas:", "a b:1"},
		},
		"version": {
			[]string{"1", "1.2", "1.2.3", "v1.2.3", "1.2.3-rc.1", "1.2.3+build.7", "1.2.3-rc-1+b-7", "01.02.03"},
			[]string{"latest", "1.2.3.4", "1.2-rc", "1.2.3-", "1.2.3+", "v", ".1", "1.", "1..2", " 1.2.3", "1.2.3_4", strings.Repeat("1", 200), "é"},
		},
		"range": {
			[]string{"<2", ">=1.2 <2", ">=1 <2||3.0.1-rc.1+b"},
			[]string{"$(x)", "<2;", "<2\n", "~1", strings.Repeat("1", 300), "é"},
		},
		"id":       {[]string{"a", "7d1c8a52-5f0e-4a7b-8a35-6d2f6c9d3b10", "A.b_c"}, []string{"a b", "a/b", long + "aa"}},
		"word":     {[]string{"running", "ON", "on-failure", "mips64le"}, []string{"1a", "a b", "a.b", long + "a"}},
		"protocol": {[]string{"1", "1.0", "12.34"}, []string{"1.", ".1", "1.0.0", "a", "1.a", "+1"}},
		"build":    {[]string{"dev", "1.0.0-3-gabc-dirty", "v1"}, []string{"a b", "(devel)"}},
		"variable": {[]string{"COLOUR", "_a1"}, []string{"1A", "A-B", "A B", "Ä", "A="}},
		"target":   {[]string{"run", "1.run_x-y"}, []string{"-f", ".x", "a b", "A=b", "a/b", "ünter"}},
		"path":     {[]string{"/etc/web.env", "/a b/ä"}, []string{"etc", "/a\nb", "/a\x00", "/\xff"}},
		"hash":     {[]string{"$2a$10$abc./"}, []string{"$(x)"}},
		"url": {
			[]string{"http://192.168.1.20:8080/", "https://example.com/a/b?c=d#e", "http://[2001:db8::20]:80/", "http://nas"},
			[]string{"nas", "ftp://nas/", "http://", "http:///x", "javascript:alert", "https://a/b c", "https://a/$(x)", "https://a/`x`", "https://a/'", "https://a/;x", "https://a/\n", "https://a:b/", "http://a]b/", "http://a_b/", "https://é/", "http://a/" + strings.Repeat("a", 512)},
		},
		"line":     {[]string{"a b"}, []string{"a\nb", "\x7f", "\xff"}},
		"platform": {[]string{"linux/amd64", "linux/arm/v6"}, []string{"linux", "linux/", "/arm", "linux//v6", "linux/arm/v6/x", "Linux/arm", "linux/ar m", "linux/$(x)", "linux/" + long}},
		"sealed":   {[]string{"YWdl+/x"}, []string{"a=", "a b", "$(x)", "a\n", "é"}},
		"value":    {[]string{"a\nb$(x)"}, []string{"a\x00b"}},
	} {
		var of topics.TextType
		for _, text := range topics.TextTypes() {
			if text.Name == name {
				of = text
			}
		}
		for _, s := range samples.good {
			if !of.Valid(s) {
				t.Errorf("%s: %q was refused", name, s)
			}
		}
		for _, s := range samples.bad {
			if of.Valid(s) {
				t.Errorf("%s: %q was taken", name, s)
			}
		}
	}
}

func TestTraitValues(t *testing.T) {
	for _, s := range []string{"", "ON", "away", "21.5", "-5.3", "not home", "/dev/serial/by-id/usb-ITead_Sonoff_Zigbee_3.0-if00-port0", "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0", "a@b", "2026-01-02 15:04"} {
		if !topics.ValidTraitValue(s) {
			t.Errorf("%q was refused", s)
		}
	}
	bad := append(topicstest.Attacks("F"), "-o", "a -o", "-", " a", "a ", "a  b", "a|b", "a&b", "a>b", "a*b", "~a", "a=b", "a#b", `a"b`, "a'b", `a\b`, "{a}", "(a)", "a%b", "a!b", "[a]", "a?b", "ä", strings.Repeat("a", 256))
	for _, s := range bad {
		if topics.ValidTraitValue(s) {
			t.Errorf("%q was taken", s)
		}
	}
}

// FuzzTextTypes: no type with an alphabet takes what means something to make or
// a shell, and each takes the same text in the same way always.
func FuzzTextTypes(f *testing.F) {
	for _, text := range topics.TextTypes() {
		f.Add(text.Example)
	}
	for _, attack := range topicstest.Attacks("F") {
		f.Add(attack)
	}
	f.Add("fe80::1%eth0")
	f.Add(" ")
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		for _, text := range topics.TextTypes() {
			if !text.Valid(s) || free[text.Name] {
				continue
			}
			// A bcrypt hash holds $, a range its operators: both are compared alone.
			rest := s
			if text.Name == "range" {
				rest = strings.NewReplacer("<", "", ">", "", "|", "", "!", "", " ", "").Replace(s)
			}
			if strings.ContainsAny(rest, "`;&|<>(){}\"'\\*?~#! \t\r\n\x00") || strings.Contains(rest, "$") && text.Name != "hash" {
				t.Errorf("%s took %q", text.Name, s)
			}
		}
		if topics.ValidTraitValue(s) && (strings.ContainsAny(s, "$`;&|<>(){}\"'\\*?~#!\t\r\n\x00") || s[0] == ' ') {
			t.Errorf("a trait took %q", s)
		}
	})
}
