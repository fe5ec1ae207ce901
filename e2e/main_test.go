package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary runs three times, one inside the other: outside it builds
// the programs and makes the namespaces; as init it is process 1 of them and
// reaps what the programs under test orphan; inside it runs the tests.
const (
	roleVariable = "DOMINION_E2E_ROLE"
	dirVariable  = "DOMINION_E2E_DIR"
	roleInit     = "init"
	roleInside   = "inside"

	// outerNetwork is the file descriptor of the network namespace outside,
	// where a test needs the machine's own network.
	outerNetwork = 3
)

// programs are the paths of what was built.
var programs struct {
	dominion, domain, dominionctl, answer string
}

// version is what the programs under test are built to say of themselves.
const version = "0.0.0-e2e"

// missing says why no end-to-end test can run; "" when they can.
var missing = "set DOMINION_E2E=1 to run the end-to-end tests"

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	switch {
	case os.Getenv("DOMINION_E2E") != "1" && os.Getenv("DOMINION_BENCH") != "1":
		return m.Run(), nil
	case os.Getenv(roleVariable) == roleInit:
		return beInit()
	case os.Getenv(roleVariable) == roleInside:
		missing = ""
		namePrograms(os.Getenv(dirVariable))
		return m.Run(), nil
	}
	if missing = lacking(); missing != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "dominion-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	// a service may run as another user and has to get through here
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	if err := build(dir); err != nil {
		return 1, err
	}
	return enclose(dir)
}

// lacking names what the tests need and this machine has not.
func lacking() string {
	if os.Geteuid() != 0 {
		return "needs root, for network namespaces"
	}
	for _, program := range []string{"ip", "make", "mosquitto", "mosquitto_sub", "mosquitto_pub", "mosquitto_passwd"} {
		if _, err := exec.LookPath(program); err != nil {
			return "needs " + program + ": apt install iproute2 make mosquitto mosquitto-clients"
		}
	}
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if err := probe.Run(); err != nil {
		return fmt.Sprintf("needs namespaces, which this system refuses: %v", err)
	}
	return ""
}

// build builds the programs as they are released: static, without cgo. With
// DOMINION_E2E_BIN it takes those of that directory.
func build(dir string) error {
	packages := []string{"./testdata/answer"}
	if bin := os.Getenv("DOMINION_E2E_BIN"); bin != "" {
		for _, program := range []string{"dominion", "domain", "dominionctl"} {
			if err := os.Symlink(filepath.Join(bin, program), filepath.Join(dir, program)); err != nil {
				return err
			}
		}
	} else {
		packages = append(packages, "../cmd/dominion", "../cmd/domain", "../cmd/dominionctl")
	}
	cmd := exec.Command("go", append([]string{
		"build", "-trimpath", "-ldflags", "-s -w -X main.version=" + version, "-o", dir + "/",
	}, packages...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build the programs: %w\n%s", err, out)
	}
	return nil
}

func namePrograms(dir string) {
	programs.dominion = filepath.Join(dir, "dominion")
	programs.domain = filepath.Join(dir, "domain")
	programs.dominionctl = filepath.Join(dir, "dominionctl")
	programs.answer = filepath.Join(dir, "answer")
}

const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// enclose runs this binary again as process 1 of namespaces of its own.
func enclose(dir string) (int, error) {
	network, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return 1, err
	}
	defer network.Close()

	// the signal at the parent's death is sent when the creating thread ends
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleInit, dirVariable+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{network} // becomes outerNetwork
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	} else if err != nil {
		return 1, fmt.Errorf("cannot run in namespaces: %w", err)
	}
	return 0, nil
}

// beInit prepares the namespaces, runs the tests in them as a child and reaps
// every orphan: an agent that is killed leaves its services to process 1, and
// a zombie nobody waits for would look like a service that does not stop.
func beInit() (int, error) {
	if pid := os.Getpid(); pid != 1 {
		return 1, fmt.Errorf("%s=%s is for process 1 of a namespace, this is process %d", roleVariable, roleInit, pid)
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0}, // for /run/netns: its names are ours alone
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return 1, fmt.Errorf("cannot mount %s: %w", m.target, err)
		}
	}
	// ip makes its folder a mount that is shared when it makes the first network;
	// two that did it at the same moment would make two, one over the other.
	if err := errors.Join(
		os.MkdirAll("/run/netns", 0o755),
		unix.Mount("/run/netns", "/run/netns", "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Mount("", "/run/netns", "", unix.MS_SHARED|unix.MS_REC, ""),
	); err != nil {
		return 1, fmt.Errorf("cannot prepare /run/netns: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("cannot set lo up: %w: %s", err, out)
	}
	if err := os.Setenv(roleVariable, roleInside); err != nil {
		return 1, err
	}
	tests, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, os.NewFile(outerNetwork, "outer network")},
	})
	if err != nil {
		return 1, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("cannot wait: %w", err)
		case pid == tests.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == tests.Pid:
			return 1, fmt.Errorf("the tests ended by signal %v", status.Signal())
		}
	}
}

// needs skips a test that cannot run here and says why.
func needs(t testing.TB, tools ...string) {
	t.Helper()
	if missing != "" {
		t.Skip(missing)
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
}

// command runs a short program of the system in the test's own namespaces.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func writeFile(file, text string) error { return os.WriteFile(file, []byte(text), 0o644) }

// containsAny reports whether one of the words is in s.
func containsAny(s string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
