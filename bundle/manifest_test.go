package bundle

import (
	"strings"
	"testing"
)

var someDigest = DigestOf([]byte("x"))

func TestManifest(t *testing.T) {
	m := Manifest{Config: DigestOf([]byte("{}")), ConfigSize: 2, Layer: Layer{MediaType: LayerZstd, Digest: someDigest, Size: 7, Content: DigestOf([]byte("y"))}}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseManifest(text); err != nil || got != m {
		t.Errorf("%+v, %v", got, err)
	}
	for what, change := range map[string][2]string{
		"another artifact":       {ArtifactType, "application/vnd.docker.container.image.v1+json"},
		"another config":         {ConfigType, "application/json"},
		"another layer":          {LayerZstd, "application/zip"},
		"no digest of a layer":   {string(someDigest), "sha512:00"},
		"no digest of a config":  {string(m.Config), "sha256:" + strings.Repeat("G", 64)},
		"no content":             {ContentAnnotation, "other"},
		"schema 1":               {`"schemaVersion":2`, `"schemaVersion":1`},
		"a size below 0":         {`"size":7`, `"size":-7`},
		"something behind it":    {"}]}", "}]} {}"},
		"a config without bytes": {`"size":2`, `"size":0`},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if changed == string(text) {
			t.Fatalf("%s: nothing to change in %s", what, text)
		}
		if _, err := ParseManifest([]byte(changed)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if _, err := ParseManifest([]byte(strings.Repeat(" ", MaxManifest+1))); err == nil {
		t.Error("a manifest that is too large was read")
	}
}

func TestIndex(t *testing.T) {
	variants := []Variant{
		{Platform{"linux", "arm64", ""}, DigestOf([]byte("a")), 1},
		{Platform{"linux", "arm", "v6"}, DigestOf([]byte("b")), 2},
		{Platform{"linux", "arm", "v7"}, DigestOf([]byte("c")), 3},
	}
	text, err := EncodeIndex(variants)
	if err != nil {
		t.Fatal(err)
	}
	got, is, err := ParseIndex(text)
	if err != nil || !is || len(got) != 3 || got[1] != variants[1] {
		t.Errorf("%+v, %v, %v", got, is, err)
	}
	m := Manifest{Config: someDigest, ConfigSize: 2, Layer: Layer{MediaType: LayerZstd, Digest: someDigest, Size: 7, Content: someDigest}}
	single, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, is, err := ParseIndex(single); is || err != nil {
		t.Errorf("a manifest is an index: %v, %v", is, err)
	}
	for what, change := range map[string][2]string{
		"no platform":         {`"platform"`, `"other"`},
		"a bad platform":      {`"arm64"`, `"ARM 64"`},
		"a bad digest":        {"sha256:", "md5:"},
		"something behind it": {"}]", "}] x"},
	} {
		if _, _, err := ParseIndex([]byte(strings.Replace(string(text), change[0], change[1], 1))); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

func TestParsePlatform(t *testing.T) {
	for _, text := range []string{"linux", "linux/", "/arm64", "linux/arm/v6/x", "Linux/arm64", "linux/arm 64", "linux/" + strings.Repeat("a", 21)} {
		if p, err := ParsePlatform(text); err == nil {
			t.Errorf("%q is %v", text, p)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	m := Manifest{Config: someDigest, ConfigSize: 2, Layer: Layer{MediaType: LayerGzip, Digest: someDigest, Size: 7, Content: someDigest}}
	if text, err := m.Encode(); err == nil {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _, _ = ParseIndex(text)
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseManifest(again); err != nil || got != m {
			t.Errorf("%+v is %+v after encoding (%v)", m, got, err)
		}
	})
}
