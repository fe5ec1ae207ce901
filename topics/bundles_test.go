package topics

import "testing"

func TestBundleFor(t *testing.T) {
	of := func(platforms ...string) *Bundle {
		b := new(Bundle)
		for _, p := range platforms {
			b.Variants = append(b.Variants, BundleVariant{Platform: p})
		}
		return b
	}
	for _, tt := range []struct {
		machine string
		bundle  *Bundle
		want    string
		found   bool
	}{
		{"linux/arm64", of("linux/amd64", "linux/arm64"), "linux/arm64", true},
		{"linux/arm64", of("linux/arm64/v8", "linux/amd64"), "", false},
		{"linux/arm/v7", of("linux/arm/v6", "linux/arm/v7"), "linux/arm/v7", true},
		{"linux/arm/v6", of("linux/arm/v6", "linux/arm/v7"), "linux/arm/v6", true},
		{"linux/arm/v6", of("linux/arm/v7"), "", false},
		{"linux/arm/v6", of("linux/arm"), "linux/arm", true},
		{"linux/arm", of("linux/arm/v6"), "", false},
		{"linux/amd64", of("", "linux/amd64"), "linux/amd64", true},
		{"linux/riscv64", of("", "linux/amd64"), "", true},
		{"", of("linux/amd64"), "", false},
		{"linux/amd64", of("darwin/amd64"), "", false},
		{"linux/amd64", of(), "", false},
	} {
		got, found := tt.bundle.For(tt.machine)
		if found != tt.found || got.Platform != tt.want {
			t.Errorf("%v for %q: %q, %v", tt.bundle.Platforms(), tt.machine, got.Platform, found)
		}
	}
}
