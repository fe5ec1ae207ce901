package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	oci "github.com/opencontainers/image-spec/specs-go/v1"
)

// ContentAnnotation is the annotation of a layer with the digest of its uncompressed tar.
const ContentAnnotation = "io.dominion.content"

// MaxManifest bounds a manifest, an index and a config, in bytes.
const MaxManifest = 1 << 20

// maxPlatforms bounds the manifests of an index.
const maxPlatforms = 32

// Layer is the compressed tar of a bundle.
type Layer struct {
	MediaType string
	// Digest and Size are those of the compressed bytes.
	Digest Digest
	Size   int64
	// Content is the digest of the uncompressed tar.
	Content Digest
}

// Manifest is that of a bundle for one platform.
type Manifest struct {
	// Config is the digest of the config, ConfigSize its size in bytes.
	Config     Digest
	ConfigSize int64
	Layer      Layer
}

// Encode returns the manifest as OCI has it.
func (m Manifest) Encode() ([]byte, error) {
	return encode(oci.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageManifest, ArtifactType: ArtifactType,
		Config: oci.Descriptor{MediaType: ConfigType, Digest: digest.Digest(m.Config), Size: m.ConfigSize},
		Layers: []oci.Descriptor{{
			MediaType: m.Layer.MediaType, Digest: digest.Digest(m.Layer.Digest), Size: m.Layer.Size,
			Annotations: map[string]string{ContentAnnotation: string(m.Layer.Content)},
		}},
	})
}

func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a manifest: %w", err)
	}
	return text, nil
}

// ParseManifest reads the manifest of a bundle. One of anything else is an error.
func ParseManifest(text []byte) (Manifest, error) {
	var m oci.Manifest
	if err := decode(text, &m); err != nil {
		return Manifest{}, err
	}
	fault := func(format string, args ...any) (Manifest, error) {
		return Manifest{}, fmt.Errorf("not the manifest of a service: "+format, args...)
	}
	if m.SchemaVersion != 2 || m.MediaType != oci.MediaTypeImageManifest {
		return fault("its media type is %.80q", m.MediaType)
	}
	if m.ArtifactType != ArtifactType || m.Config.MediaType != ConfigType {
		return fault("its artifact type is %.80q, want %s", m.ArtifactType, ArtifactType)
	}
	if len(m.Layers) != 1 {
		return fault("it has %d layers, want one", len(m.Layers))
	}
	l := m.Layers[0]
	if l.MediaType != LayerZstd && l.MediaType != LayerGzip {
		return fault("its layer has the media type %.80q, want %s or %s", l.MediaType, LayerZstd, LayerGzip)
	}
	if l.Size <= 0 || m.Config.Size <= 0 || m.Config.Size > MaxManifest {
		return fault("its layer has %d bytes and its config %d", l.Size, m.Config.Size)
	}
	out := Manifest{ConfigSize: m.Config.Size, Layer: Layer{MediaType: l.MediaType, Size: l.Size}}
	for _, d := range []struct {
		into *Digest
		text string
		what string
	}{
		{&out.Config, string(m.Config.Digest), "config"},
		{&out.Layer.Digest, string(l.Digest), "layer"},
		{&out.Layer.Content, l.Annotations[ContentAnnotation], ContentAnnotation},
	} {
		parsed, err := ParseDigest(d.text)
		if err != nil {
			return fault("%s: %w", d.what, err)
		}
		*d.into = parsed
	}
	return out, nil
}

// decode reads one JSON document of bounded size.
func decode(text []byte, into any) error {
	if len(text) > MaxManifest {
		return fmt.Errorf("a manifest of %d bytes is too large: at most %d", len(text), MaxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("cannot read a manifest: %w", err)
	}
	if d.More() {
		return errors.New("cannot read a manifest: something follows it")
	}
	return nil
}

// Variant is the manifest of one platform in an index.
type Variant struct {
	Platform Platform
	// Manifest and Size are the digest and the size of its manifest.
	Manifest Digest
	Size     int64
}

// EncodeIndex returns an index of variants.
func EncodeIndex(variants []Variant) ([]byte, error) {
	index := oci.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageIndex, ArtifactType: ArtifactType}
	for _, v := range variants {
		index.Manifests = append(index.Manifests, oci.Descriptor{
			MediaType: oci.MediaTypeImageManifest, ArtifactType: ArtifactType, Digest: digest.Digest(v.Manifest), Size: v.Size,
			Platform: &oci.Platform{OS: v.Platform.OS, Architecture: v.Platform.Arch, Variant: v.Platform.Variant},
		})
	}
	return encode(index)
}

// ParseIndex reads an index. It returns false where the text is no index.
func ParseIndex(text []byte) ([]Variant, bool, error) {
	var index oci.Index
	if err := decode(text, &index); err != nil {
		return nil, false, err
	}
	if index.MediaType != oci.MediaTypeImageIndex {
		return nil, false, nil
	}
	if n := len(index.Manifests); n == 0 || n > maxPlatforms {
		return nil, true, fmt.Errorf("the index has %d manifests: want 1 to %d", n, maxPlatforms)
	}
	var all []Variant
	for _, m := range index.Manifests {
		d, err := ParseDigest(string(m.Digest))
		if err != nil {
			return nil, true, fmt.Errorf("the index: %w", err)
		}
		if m.Platform == nil {
			return nil, true, errors.New("the index has a manifest without a platform")
		}
		p := Platform{OS: m.Platform.OS, Arch: m.Platform.Architecture, Variant: m.Platform.Variant}
		if _, err := ParsePlatform(p.String()); err != nil {
			return nil, true, fmt.Errorf("the index: %w", err)
		}
		all = append(all, Variant{Platform: p, Manifest: d, Size: m.Size})
	}
	return all, true, nil
}
