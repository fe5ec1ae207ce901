package facts

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestIdentityIsPersisted(t *testing.T) {
	dir := t.TempDir()
	id, err := Identity(dir, func() string { return "" }, quiet)
	if err != nil || !uuidPattern.MatchString(id) {
		t.Fatalf("Identity = %q, %v", id, err)
	}
	if again, err := Identity(dir, func() string { return "" }, quiet); err != nil || again != id {
		t.Fatalf("the second Identity = %q, %v, want %q", again, err, id)
	}
}

func TestIdentitySetsABrokenFileAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "id")
	if err := os.WriteFile(path, []byte("\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := Identity(dir, func() string { return "" }, quiet)
	if err != nil || !uuidPattern.MatchString(id) {
		t.Fatalf("Identity = %q, %v", id, err)
	}
	if _, err := os.Stat(path + ".broken"); err != nil {
		t.Error(err)
	}
}

func TestLockIsForOneAgent(t *testing.T) {
	dir := t.TempDir()
	first, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), "another agent uses it") {
		t.Fatalf("the second Lock: %v", err)
	}
	first.Close()
	second, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// A worn SD card turns read-only, and the agent goes on.
func TestLockOnAReadOnlyDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a file system; nothing was tested")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a file system; nothing was tested: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", dir, err)
		}
	}()
	first, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	second, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), "another agent uses it") {
		t.Errorf("locked twice: %v", err)
	}
}

func TestCatalog(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("web/Makefile", "run:\n")
	write("web/service.toml", "1.2.0")
	write("lamp/GNUmakefile", "run:\n")
	write("direct/service.toml", "command")
	write("neither/service.toml", "1.0.0")
	write("broken/service.toml", "broken")
	write("broken/Makefile", "run:\n")
	write("Bad_Name/Makefile", "run:\n")
	write("library/code.py", "")
	write(".git/Makefile", "")
	write("README", "")
	if err := os.Symlink("web", filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	loads := 0
	c := NewCatalog(dir, foreign.New(), func(serviceDir string) (Manifest, error) {
		loads++
		b, _ := os.ReadFile(filepath.Join(serviceDir, ManifestFile))
		switch s := string(b); s {
		case "broken":
			return Manifest{}, errors.New("service.toml:1: nonsense")
		case "command":
			return Manifest{Command: []string{"./run"}}, nil
		default:
			return Manifest{Version: s}, nil
		}
	})
	want := func(rows []topics.CatalogRow, names string) {
		t.Helper()
		var got []string
		for _, r := range rows {
			if services.IsContentVersion(r.Version) {
				r.Version = "content"
			}
			got = append(got, r.Service+"="+r.Version)
		}
		if s := strings.Join(got, " "); s != names {
			t.Errorf("catalog %q, want %q", s, names)
		}
	}
	rows, problems := c.Scan()
	want(rows, "direct=content lamp=content linked=1.2.0 web=1.2.0")
	if all := strings.Join(problems, "\n"); len(problems) != 3 ||
		!strings.Contains(all, "nonsense") || !strings.Contains(all, "Bad_Name") || !strings.Contains(all, "neither a Makefile nor a command") {
		t.Errorf("problems %q", problems)
	}

	loads = 0
	rows, problems = c.Scan()
	want(rows, "direct=content lamp=content linked=1.2.0 web=1.2.0")
	if loads != 0 || len(problems) != 0 {
		t.Errorf("a second scan read %d files and told %q again", loads, problems)
	}

	write("web/service.toml", "1.10.0")
	if err := os.RemoveAll(filepath.Join(dir, "lamp")); err != nil {
		t.Fatal(err)
	}
	write("broken/service.toml", "3.0.0")
	rows, problems = c.Scan()
	want(rows, "broken=3.0.0 direct=content linked=1.10.0 web=1.10.0")
	if len(problems) != 0 {
		t.Errorf("problems %q", problems)
	}
}

func TestCatalogWithoutItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "services")
	c := NewCatalog(dir, foreign.New(), nil)
	if rows, problems := c.Scan(); len(rows) != 0 || len(problems) != 1 || !strings.Contains(problems[0], "there is no services_dir") {
		t.Errorf("Scan = %v, %q", rows, problems)
	}
	if _, problems := c.Scan(); len(problems) != 0 {
		t.Errorf("told again: %q", problems)
	}
}

func TestDefaultInterface(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	const v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth6\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n"
	for name, c := range map[string]struct{ v4, v6, want string }{
		"the lower metric": {head + "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\neth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", v6, "eth0"},
		"no default route": {head + "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", "", ""},
		"a route down":     {head + "eth0\t00000000\t0100A8C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n", "", ""},
		"IPv6 alone":       {head, v6, "eth6"},
		"nonsense":         {"\x00\n\n1 2 3", "a b", ""},
	} {
		if got := defaultInterface(c.v4, c.v6); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestChoose(t *testing.T) {
	addr := netip.MustParseAddr
	all := []netip.Addr{addr("169.254.3.4"), addr("2001:db8::1"), addr("192.168.1.7")}
	for n, want := range []string{"", "169.254.3.4", "2001:db8::1", "192.168.1.7"} {
		got, ok := choose(all[:n])
		if ok != (n > 0) || ok && got.String() != want {
			t.Errorf("of %v: %v, want %s", all[:n], got, want)
		}
	}
}

func TestMeter(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("proc/loadavg", "0.52 0.58 0.59 1/977 12345\n")
	put("proc/meminfo", "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n")
	put("proc/self/stat", "no pid")
	process := func(pid, group, ticks, pages string) {
		put("proc/"+pid+"/stat", pid+" (a ) b) S 1 "+group+" 1 0 -1 0 0 0 0 0 "+ticks+" 0 0 0 20 0 1 0 777 1000 "+pages+" 0 0\n")
	}
	process("10", "10", "100", "3")
	process("11", "10", "50", "2")
	process("12", "12", "900", "9")
	put("thermal/thermal_zone0/temp", "30000\n")
	put("thermal/thermal_zone0/type", "acpitz\n")
	put("thermal/thermal_zone1/temp", "48312\n")
	put("thermal/thermal_zone1/type", "cpu-thermal\n")
	m := NewMeter(dir)
	m.proc, m.thermal = procfs.FS(dir+"/proc"), dir+"/thermal"
	groups := map[string]int{"web": 10, "gone": 99}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got := m.Measure(now, groups)
	page := uint64(os.Getpagesize())
	if got.Load1 != 0.52 || got.Cores < 1 || got.MemoryTotal != 1000<<10 || got.MemoryUsed != 600<<10 || got.DiskFree == 0 {
		t.Errorf("machine: %+v", got)
	}
	if got.Temperature == nil || *got.Temperature != 48.3 {
		t.Errorf("temperature %v, want 48.3", got.Temperature)
	}
	if u := got.Services["web"]; u.Memory != 5*page || u.CPU != 0 {
		t.Errorf("web at first: %+v", u)
	}
	process("10", "10", "350", "4")
	got = m.Measure(now.Add(10*time.Second), groups)
	if u := got.Services["web"]; u.Memory != 6*page || u.CPU != 0.25 {
		t.Errorf("web: %+v, want 0.25 cores and 6 pages", u)
	}
	if u, ok := got.Services["gone"]; !ok || u != (topics.Usage{}) {
		t.Errorf("a group without processes: %+v, %v", u, ok)
	}
}

func TestMeterByControlGroup(t *testing.T) {
	dir := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	stat := func(pid, started, pages string) {
		put("proc/"+pid+"/stat", pid+" (x) S 1 99 99 0 -1 0 0 0 0 0 7 7 0 0 20 0 1 0 "+started+" 1000 "+pages+" 0\n")
	}
	put("proc/uptime", "100.00 1.00\n")
	group := func(name, usec, pids string) {
		put("cgroup/unit/dominion-1/"+name+"/cpu.stat", "usage_usec "+usec+"\nuser_usec 1\n")
		put("cgroup/unit/dominion-1/"+name+"/cgroup.procs", pids)
	}
	put("proc/self/mountinfo", "1 2 0:3 / "+dir+"/cgroup rw - cgroup2 cgroup2 rw\n")
	put("proc/10/cgroup", "3:cpu:/x\n0::/unit/dominion-1/web@a.r1/below\n")
	put("proc/20/cgroup", "0::/unit/dominion-1/web@b.r1\n")
	put("proc/30/cgroup", "0::/unit\n")
	group("web@a.r1", "5000000", "10\n11\n")
	put("cgroup/unit/dominion-1/web@a.r1/below/cgroup.procs", "12\n")
	stat("10", "5000", "1")
	stat("11", "5000", "2")
	stat("12", "5000", "4")
	stat("20", "11500", "1")
	m := NewMeter(dir)
	m.proc, m.thermal = procfs.FS(dir+"/proc"), dir
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	page := uint64(os.Getpagesize())
	measure := func(leader int, want topics.Usage) {
		t.Helper()
		if got := m.Measure(now, map[string]int{"web": leader, "bare": 30}).Services; got["web"] != want || got["bare"] != (topics.Usage{}) {
			t.Errorf("%+v, want web %+v", got, want)
		}
		now = now.Add(10 * time.Second)
	}
	measure(10, topics.Usage{CPU: 0.1, Memory: 7 * page}) // since its start
	group("web@a.r1", "7500000", "10\n")
	measure(10, topics.Usage{CPU: 0.25, Memory: 5 * page})
	group("web@b.r1", "1000000", "11\n") // a new life
	put("proc/uptime", "120.00 1.00\n")
	measure(20, topics.Usage{CPU: 0.2, Memory: 2 * page})
	measure(20, topics.Usage{Memory: 2 * page})
}

func TestThisMachine(t *testing.T) {
	m := NewMeter(t.TempDir()).Measure(time.Now(), nil)
	if m.MemoryTotal == 0 || m.DiskFree == 0 || m.MemoryUsed == 0 || m.MemoryUsed > m.MemoryTotal {
		t.Errorf("metrics of this machine: %+v", m)
	}
	address, _ := Addresses(nil)
	if _, err := netip.ParseAddr(address); err != nil && address != "" {
		t.Error(err)
	}
}

// Where a machine has an address of the local link alone, that is its address,
// with the zone that it means nothing without.
func TestLinkLocal(t *testing.T) {
	network := func(s string) net.Addr {
		prefix := netip.MustParsePrefix(s)
		return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
	}
	if got := zoned([]net.Addr{network("127.0.0.1/8"), network("::1/128"), network("fe80::1/64")}, "eth0").String(); got != "fe80::1%eth0" {
		t.Error(got)
	}
	if got := zoned([]net.Addr{network("::1/128"), network("2001:db8::1/64")}, "eth0"); got.IsValid() {
		t.Error(got)
	}
}
