package topics

import "strings"

// Bundle is the program of a service as it travels: a version in the hub's registry.
type Bundle struct {
	Version  string          `json:"version" type:"version" doc:"of the service in the hub's registry"`
	Digest   string          `json:"digest" type:"digest" doc:"of the manifest or index that the version names"`
	Variants []BundleVariant `json:"variants" doc:"one for each platform; a domain takes the best that it can run"`
}

// BundleVariant is a bundle for one platform.
type BundleVariant struct {
	Platform string `json:"platform,omitempty" type:"platform" doc:"for which it is; absent: for any"`
	Manifest string `json:"manifest" type:"digest" doc:"of its manifest, by which a domain pulls it"`
	Content  string `json:"content" type:"digest" doc:"of the uncompressed tar: what its directory is named after"`
	Size     int64  `json:"size" doc:"bytes of the compressed layer"`
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

// MaxDefinitions bounds the TOML of apply, in bytes.
const MaxDefinitions = 64 << 10

// validDigest takes a SHA-256 as OCI writes it.
func validDigest(s string) bool {
	digits, found := strings.CutPrefix(s, "sha256:")
	return found && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}
