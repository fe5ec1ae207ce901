// Package bundle makes and reads the archives in which services travel: the directory of
// a service as a reproducible tar, and the OCI manifest that describes it.
//
// The name of a bundle's content is the SHA-256 of the uncompressed tar, so the same
// directory has the same name wherever and however it is compressed. What may be in a bundle is
// decided in one place (entry.go), for the side that packs and for the one that
// unpacks: regular files, directories and links that stay inside.
//
// It knows no service, no network and no clock. The command line packs, the hub reads
// manifests, the agent's helper unpacks.
//
// # Files
//
//	bundle.go    media types, digests
//	entry.go     which entries may be in a bundle: names, links, modes, sizes
//	ignore.go    .dominionignore
//	manifest.go  OCI manifests and indexes
//	pack.go      from a directory to a tar
//	platform.go  OS, architecture and variant
//	unpack.go    from a tar to a directory
package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Media types of a bundle.
const (
	// ArtifactType is that of a manifest of a service.
	ArtifactType = "application/vnd.dominion.service.v1"
	// ConfigType is that of the config of such a manifest: what service.toml says, as JSON.
	ConfigType = "application/vnd.dominion.service.config.v1+json"
	// LayerZstd and LayerGzip are those of the one layer.
	LayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd"
	LayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Digest is a SHA-256 as OCI writes it: "sha256:" and 64 hex digits.
type Digest string

const digestPrefix = "sha256:"

// ParseDigest reads a digest.
func ParseDigest(text string) (Digest, error) {
	digits, found := strings.CutPrefix(text, digestPrefix)
	if b, err := hex.DecodeString(digits); !found || err != nil || len(b) != sha256.Size || strings.ToLower(digits) != digits {
		return "", fmt.Errorf("%.90q is not a digest: want sha256: and 64 digits of 0-9, a-f", text)
	}
	return Digest(text), nil
}

// DigestOf returns the digest of bytes.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(digestPrefix + hex.EncodeToString(sum[:]))
}

// Hex returns the 64 digits.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// Version returns the default version of a bundle with this content.
func (d Digest) Version() string { return "0.0.0+" + d.Hex()[:12] }

// Tag returns the tag of a version in a registry: tags have no "+".
func Tag(version string) string { return strings.ReplaceAll(version, "+", "_") }

// Compress returns a writer that compresses a tar to w, as LayerZstd.
func Compress(w io.Writer) (io.WriteCloser, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("cannot compress a bundle: %w", err)
	}
	return z, nil
}
