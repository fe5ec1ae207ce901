package topics

import (
	"cmp"
	"strings"
)

// Bundle is the program of a service as it travels: a version in the hub's registry.
type Bundle struct {
	Version  string          `json:"version" type:"version" doc:"of the service in the hub's registry"`
	Digest   string          `json:"digest" type:"digest" doc:"of the manifest or index that the version names"`
	Variants []BundleVariant `json:"variants" doc:"one for each platform; a domain takes the best that it can run"`
}

// BundleVariant is a bundle for one platform.
type BundleVariant struct {
	Platform string `json:"platform,omitempty" type:"platform" doc:"for which it is; absent: for any"`
	Manifest string `json:"manifest" type:"digest" doc:"of its manifest in the registry"`
	Layer    string `json:"layer" type:"digest" doc:"of the compressed tar, which a domain pulls"`
	Format   string `json:"format" type:"word" doc:"of the layer: zstd or gzip"`
	Content  string `json:"content,omitempty" type:"digest" doc:"of the uncompressed tar: what its directory is named after; absent: it is not known before it is unpacked"`
	Size     int64  `json:"size" doc:"bytes of the layer"`
}

// The formats of a layer.
const (
	FormatZstd = "zstd"
	FormatGzip = "gzip"
)

// MaxVariants bounds the variants of a bundle.
const MaxVariants = 32

// For returns the variant for a machine of a platform: the one of the highest variant of its
// processor that it runs, else one for any platform. It returns false where there is none.
func (b *Bundle) For(platform string) (best BundleVariant, found bool) {
	for _, v := range b.Variants {
		if RunsOn(platform, v.Platform) && (!found || v.Platform > best.Platform) {
			best, found = v, true
		}
	}
	return best, found
}

// Platforms returns the platforms that a bundle is for; "any" stands for all.
func (b *Bundle) Platforms() (all []string) {
	for _, v := range b.Variants {
		all = append(all, cmp.Or(v.Platform, "any"))
	}
	return all
}

// RunsOn reports whether a machine of a platform runs the programs of another one: of the
// same system and processor, where those of arm may be for an older variant. "" is a program
// for any platform.
func RunsOn(machine, program string) bool {
	if program == "" || machine == program {
		return true
	}
	m, p := strings.Split(machine, "/"), strings.Split(program, "/")
	if len(m) < 2 || len(p) < 2 || m[0] != p[0] || m[1] != p[1] {
		return false
	}
	if len(p) == 2 {
		return true
	}
	return m[1] == "arm" && len(m) == 3 && len(m[2]) == 2 && len(p[2]) == 2 && m[2] >= p[2]
}

// DefinitionView is the definition of a service.
type DefinitionView struct {
	Service string `json:"service" type:"name" doc:"name of the service"`
	Source  string `json:"source" type:"text" doc:"where it is defined: a file of the hub's machine, which alone changes it; empty: at run time"`
	Base    string `json:"base,omitempty" type:"id" doc:"revision of the definition, for apply; of one that is defined at run time"`
	TOML    string `json:"toml,omitempty" type:"value" doc:"the definition as apply takes it; of one that is defined at run time"`
}

// ServiceVersion is one of the last versions of a service that was defined at run time.
type ServiceVersion struct {
	Version string `json:"version,omitempty" type:"version" doc:"of the bundle; absent: the service comes from the disks of the domains"`
	Digest  string `json:"digest,omitempty" type:"digest" doc:"what the version names in the registry"`
	At      Time   `json:"at" doc:"when it was defined"`
	By      string `json:"by,omitempty" type:"line" doc:"user who defined it; absent: at the control socket"`
	Current bool   `json:"current,omitempty" doc:"it is the definition that counts"`
	Base    string `json:"base" type:"id" doc:"revision of that definition"`
}

// Applied is the answer to apply and rollback.
type Applied struct {
	Services []DefinitionView `json:"services" doc:"what was defined, or with plan would be"`
	Plan     []PlanLine       `json:"plan,omitempty" doc:"with plan: what the hub would do"`
}

// The values of accept by which a domain takes bundles.
const (
	AcceptDeploy  = "deploy"
	AcceptUpgrade = "upgrade"
)

// MaxDefinitions bounds the TOML of apply, in bytes.
const MaxDefinitions = 64 << 10

// ValidPlatform reports whether s is a platform, as "linux/arm/v6".
func ValidPlatform(s string) bool { return validPlatform(s) }

// validDigest takes a SHA-256 as OCI writes it.
func validDigest(s string) bool {
	digits, found := strings.CutPrefix(s, "sha256:")
	return found && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}
