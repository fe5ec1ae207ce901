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
