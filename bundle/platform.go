package bundle

import (
	"fmt"
	"strings"
)

// Platform is where a bundle runs, as OCI writes it: "linux/arm64", "linux/arm/v6". The
// zero value is any.
type Platform struct{ OS, Arch, Variant string }

// ParsePlatform reads a platform.
func ParsePlatform(text string) (Platform, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return Platform{}, fmt.Errorf("%.60q is not a platform: want OS/ARCH, as linux/arm64 or linux/arm/v6", text)
	}
	for _, part := range parts {
		if part == "" || len(part) > 20 || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return Platform{}, fmt.Errorf("%.60q is not a platform: want OS/ARCH, as linux/arm64 or linux/arm/v6", text)
		}
	}
	p := Platform{OS: parts[0], Arch: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// String returns the platform as ParsePlatform reads it.
func (p Platform) String() string {
	text := p.OS + "/" + p.Arch
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

// Runs reports whether a machine of the platform p runs programs of another one: one of the
// same platform, or of a lower variant of arm.
func (p Platform) Runs(other Platform) bool {
	if p.OS != other.OS || p.Arch != other.Arch {
		return false
	}
	if other.Variant == "" || p.Variant == other.Variant {
		return true
	}
	return p.Arch == "arm" && len(p.Variant) == 2 && len(other.Variant) == 2 && p.Variant[0] == 'v' && other.Variant[0] == 'v' && p.Variant[1] >= other.Variant[1]
}

// Choose returns the best variant for a machine: the one of the highest variant that it
// runs. It returns false where there is none.
func Choose(variants []Variant, machine Platform) (best Variant, found bool) {
	for _, v := range variants {
		if machine.Runs(v.Platform) && (!found || v.Platform.Variant > best.Platform.Variant) {
			best, found = v, true
		}
	}
	return best, found
}
