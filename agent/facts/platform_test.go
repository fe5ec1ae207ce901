package facts

import (
	"runtime"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

func TestPlatform(t *testing.T) {
	for _, c := range []struct{ arch, machine, want string }{
		{"amd64", "x86_64", "linux/amd64"},
		{"arm64", "aarch64", "linux/arm64"},
		{"arm", "armv6l", "linux/arm/v6"},
		{"arm", "armv7l", "linux/arm/v7"},
		{"arm", "armv8l", "linux/arm/v7"},
		{"arm", "aarch64", "linux/arm/v7"},
		{"arm", "armv5tel", "linux/arm/v5"},
		{"arm", "", "linux/arm/v6"},
		{"riscv64", "riscv64", "linux/riscv64"},
	} {
		got := platform("linux", c.arch, c.machine)
		if got != c.want {
			t.Errorf("%s on %q is %s, want %s", c.arch, c.machine, got, c.want)
		}
		if _, err := topics.Decode[topics.Domain]("status", topics.Encode(topics.Domain{ID: "a", Name: "pi", Platform: got})); err != nil {
			t.Errorf("%s cannot be published: %v", got, err)
		}
	}
	if own := Platform(); !strings.HasPrefix(own, runtime.GOOS+"/"+runtime.GOARCH) {
		t.Errorf("this machine is %q", own)
	}
}
