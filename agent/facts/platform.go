package facts

import (
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Platform returns which programs run on this machine, as container images name it:
// linux/amd64, linux/arm64, linux/arm/v6.
func Platform() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return platform(runtime.GOOS, runtime.GOARCH, "")
	}
	return platform(runtime.GOOS, runtime.GOARCH, unix.ByteSliceToString(u.Machine[:]))
}

// platform adds the variant of an ARM of 32 bits, which the kernel's name of the machine
// says. A kernel of 64 bits runs what is made for version 7. /proc/cpuinfo does not do: a
// Raspberry Pi Zero says 7 there.
func platform(system, arch, machine string) string {
	if arch != "arm" {
		return system + "/" + arch
	}
	variant := "v6" // the least that this program is built for
	switch {
	case strings.HasPrefix(machine, "armv5"):
		variant = "v5"
	case strings.HasPrefix(machine, "armv7"), strings.HasPrefix(machine, "armv8"), machine == "aarch64":
		variant = "v7"
	}
	return system + "/" + arch + "/" + variant
}
