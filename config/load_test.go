package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestFilesThatCannotBeRead(t *testing.T) {
	large := write(t, "# "+strings.Repeat("x", maxSize))
	binary := write(t, "\x7fELF\x00\x00")
	for _, c := range []struct{ name, file, want string }{
		{"missing", "testdata/missing.toml", "testdata/missing.toml: cannot read it: no such file or directory (write the path of a file that is there, or name none for the built-in defaults)"},
		{"folder", "testdata", "testdata: cannot read it: is a directory (is it the right file?)"},
		{"endless", "/dev/zero", "/dev/zero: cannot read it: it is larger than 1048576 bytes (is it the right file?)"},
		{"large", large, large + ": cannot read it: it is larger than 1048576 bytes (is it the right file?)"},
		{"binary", binary, binary + ":1: cannot read it as TOML: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8 (mend it first: what follows could not be read)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, load := range []func() error{
				func() error { _, err := LoadDominion(c.file, nil); return err },
				func() error { _, err := LoadDomain(c.file, nil); return err },
			} {
				var faults Faults
				if err := load(); !errors.As(err, &faults) || err.Error() != c.want {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func TestAServiceWithoutAFileIsFine(t *testing.T) {
	s, err := LoadService("testdata/missing.toml")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, s, Service{})
}

// A fault never shows what may be a secret.
func TestFaultsKeepSecrets(t *testing.T) {
	file := write(t, `
[broker]
external = "mqtt://hub:s3cret@[broker:1883"

[[broker.users]]
name = "ada"
role = "admin"
password_hash = "s3cret"

[[broker.users]]
name = "bob"
role = "admin"
password_hash = ["s3cret"]
`)
	for _, external := range []string{"", "mqtt://hub:s3cret@broker:1883", "mqtt://hub:s3cret@broker:x", "http://hub:s3cret@broker:1", "hub:s3cret@broker:1", "mqtt://hub:s3cret@broker/s3cret"} {
		var environ []string
		if external != "" {
			environ = []string{"DOMINION_CFG_BROKER_EXTERNAL=" + external}
		}
		_, err := LoadDominion(file, environ)
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(strings.ToLower(err.Error()), "external") {
			t.Errorf("%s: %v", external, err)
		}
		_, err = LoadDomain("", []string{"DOMAIN_CFG_HUB=" + external})
		if external != "" && (err == nil || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("hub %s: %v", external, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for s, fine := range map[string]bool{
		":1883": true, "127.0.0.1:1883": true, "127.0.0.1:0": true, "[::1]:1883": true, "[fe80::1%eth0]:1883": true,
		"localhost:1883": true, "pi.lan.:1": true, "0.0.0.0:65535": true,
		"": false, "1883": false, "127.0.0.1": false, "::1:1883": false, "*:1883": false, "host:mqtt": false,
		"host:65536": false, "host:-1": false, "host:": false, "a b:1": false, "mqtt://h:1": false, "-x:1": false, "h:+1": false,
	} {
		if p := checkListen(s); (p == problem{}) != fine {
			t.Errorf("listen at %q: %v", s, p)
		}
	}
	for s, fine := range map[string]bool{
		"hub:1883": true, "192.168.1.2:1883": true, "[::1]:1883": true,
		":1883": false, "hub": false, "hub:0": false, "hub:mqtt": false, "": false,
	} {
		if p := checkServer(s); (p == problem{}) != fine {
			t.Errorf("server %q: %v", s, p)
		}
	}
	for s, fine := range map[string]bool{
		"mqtt://hub:1883": true, "mqtts://hub.lan:8883": true, "mqtts://ada@hub:8883": true, "mqtt://[::1]:1883": true,
		"": false, "hub:1883": false, "mqtt://hub": false, "mqtt://hub:": false, "mqtt://:1883": false, "mqtt://": false, "mqtt:hub:1883": false,
		"tcp://hub:1883": false, "mqtt://hub:1883/": false, "mqtt://hub:1883?x=1": false, "mqtt://hub:1883#x": false, "mqtt://hub:1883?": false,
		"mqtt://ada:secret@hub:1883": false, "mqtt://ada:@hub:1883": false, "mqtt://@hub:1883": false, "mqtt://hub:99999": false, "mqtt://::1:1883": false,
		"MQTT://hub:1883": true,
	} {
		if _, p := checkURL(s); (p == problem{}) != fine {
			t.Errorf("URL %q: %v", s, p)
		}
	}
	for s, fine := range map[string]bool{
		"dominion": true, "my/home": true, "Büro": true,
		"": false, "/a": false, "a/": false, "a//b": false, "a/+": false, "#": false, "$SYS": false, "a\nb": false, "a\x00": false,
		"a\xff": false, strings.Repeat("a", 129): false,
	} {
		if p := checkTopic(s); (p == problem{}) != fine {
			t.Errorf("topic %q: %v", s, p)
		}
	}
}

// seeds returns the text of every file in testdata.
func seeds(tb testing.TB) []string {
	tb.Helper()
	var texts []string
	for _, pattern := range []string{"testdata/*.toml", "testdata/faults/*.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			tb.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				tb.Fatal(err)
			}
			texts = append(texts, string(text))
		}
	}
	return texts
}

// Neither loader panics, and a fault has a place, a message, a hint, and no
// line break or control character in it.
func FuzzLoad(f *testing.F) {
	for _, text := range seeds(f) {
		f.Add(text, "BROKER_LISTEN=:1883")
		f.Add(text, "SERVICES_WEB_ENVIRONMENT_A=b")
	}
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, text, variable string) {
		file := filepath.Join(folder, "config.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, dominion := LoadDominion(file, []string{"DOMINION_CFG_" + variable})
		_, domain := LoadDomain(file, []string{"DOMAIN_CFG_" + variable})
		_, service := LoadService(file)
		for _, err := range []error{dominion, domain, service} {
			if err == nil {
				continue
			}
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("no Faults: %v", err)
			}
			for _, fault := range faults {
				s := strings.ReplaceAll(fault.String(), file, "")
				inFile := fault.File == file && fault.Line > 0 && fault.Line <= strings.Count(text, "\n")+1
				if fault.Message == "" || fault.Hint == "" || !inFile && fault.File != Environment {
					t.Errorf("%+v", fault)
				}
				if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) && !strings.ContainsFunc(variable, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Errorf("control character in %q", s)
				}
			}
		}
	})
}
