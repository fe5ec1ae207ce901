package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// aheadVariable is by how many seconds the clock of a program of clockedPrograms is ahead.
const aheadVariable = "E2E_CLOCK_AHEAD"

// clockedPrograms builds the hub and the agent with a clock that the environment sets: there is
// no namespace for that of the system. The programs are those that are released, with their
// build date; what is replaced is time.Now.
var clockedPrograms = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(filepath.Dir(programs.dominion), "clocked")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	library := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	text, err := os.ReadFile(filepath.Join(library, "time.go"))
	if err != nil {
		return "", err
	}
	const read = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), "\t"+read) == 0 {
		return "", fmt.Errorf("time.Now of this version of Go is another one: it has no %q", read)
	}
	overlay := map[string]string{
		"time.go": strings.ReplaceAll(string(text), "\t"+read, "\t"+read+"\tsec += ahead\n"),
		"ahead.go": `package time

import "syscall"

var ahead = func() (seconds int64) {
	text, _ := syscall.Getenv("` + aheadVariable + `")
	for _, c := range []byte(text) {
		if c >= '0' {
			seconds = 10*seconds + int64(c-'0')
		}
	}
	if text != "" && text[0] == '-' {
		return -seconds
	}
	return seconds
}()
`,
	}
	replace := make(map[string]string)
	for name, content := range overlay {
		file := filepath.Join(dir, name)
		if err := writeFile(file, content); err != nil {
			return "", err
		}
		replace[filepath.Join(library, name)] = file
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := writeFile(file, string(list)); err != nil {
		return "", err
	}
	today := time.Now().UTC().Truncate(24 * time.Hour).Format(time.RFC3339)
	cmd := exec.Command("go", "build", "-overlay", file, "-trimpath",
		"-ldflags", "-s -w -X main.version="+version+" -X github.com/jmbarzee/dominion/identity.buildDate="+today,
		"-o", dir+"/", "../cmd/dominion", "../cmd/domain")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build programs with another clock: %w\n%s", err, out)
	}
	return dir, nil
})

// The clocks of a machine.
var (
	rightClock = time.Duration(0)
	// at1970 is that of a Raspberry Pi without network.
	at1970 = -time.Since(time.Unix(60, 0))
	// thirteenMonths is longer than a certificate lasts.
	thirteenMonths = 396 * 24 * time.Hour
)

// clockedHome is a home whose machines have clocks of their own.
type clockedHome struct {
	*Home
	dir   string
	pi    *Domain
	hub   *Process
	agent *Process
}

func newClockedHome(t *testing.T) *clockedHome {
	home := onEmbedded(t)
	needs(t, "go")
	dir, err := clockedPrograms()
	home.must(err)
	c := &clockedHome{Home: home, dir: dir, pi: home.Domain("pi")}
	c.adoptionHub(service("web", `priority = "required"`))
	c.pi.Configure(nil, c.hubAt())
	c.pi.Install("web")
	return c
}

// start starts hub and agent by their clocks.
func (c *clockedHome) start(hub, domain time.Duration) {
	c.t.Helper()
	at := func(ahead time.Duration, program string) []string {
		return []string{fmt.Sprintf("%s=%d", aheadVariable, int64(ahead.Seconds())), filepath.Join(c.dir, program)}
	}
	env := func(ahead time.Duration, program, config string) []string {
		return append(append([]string{"-u", "DOMINION_CFG_IDENTITY_ADOPTION", "-u", "DOMAIN_CFG_ADOPTION"}, at(ahead, program)...), "-config", config)
	}
	c.hub = c.Hub.Start("env", env(hub, "dominion", c.hubFile())...)
	c.agent = c.pi.Host.Start("env", env(domain, "domain", c.pi.file())...)
}

// restart does so anew, by other clocks, and returns when the domain is online.
func (c *clockedHome) restart(hub, domain time.Duration) {
	c.t.Helper()
	c.agent.Stop()
	c.hub.Stop()
	c.start(hub, domain)
	c.awaitHub()
	c.awaitState("pi", topics.DomainIsOnline)
}

// adopt adopts the domain by its code and waits until its service runs.
func (c *clockedHome) adopt() {
	c.t.Helper()
	c.awaitState("pi", topics.DomainIsWaiting)
	if r := c.control("adopt", "pi", c.pi.code()); r.Code != 0 {
		c.t.Fatalf("adopt: %+v", r)
	}
	c.awaitState("pi", topics.DomainIsOnline)
	c.Journal.AwaitRunning(c.t, "web@pi")
}

// certificates returns those that the hub has issued.
func (c *clockedHome) certificates() (all []topics.CertificateView) {
	c.t.Helper()
	c.must(json.Unmarshal([]byte(c.control("certificates", "--json").Stdout), &all))
	if len(all) < 2 {
		c.t.Errorf("certificates: %+v", all)
	}
	return all
}

// undisturbed fails if the service was started more than once.
func (c *clockedHome) undisturbed() {
	c.t.Helper()
	c.Journal.AwaitRunning(c.t, "web@pi")
	if n := len(c.Journal.Of(c.t, "start", "web")); n != 1 {
		c.t.Errorf("web was started %d times", n)
	}
}

// A machine that boots in 1970, the hub or a domain or both, is adopted and adopts, and issues
// nothing that has ended when the clock is right. The clocks are set and lost again, and nobody
// notices.
func TestClockAt1970(t *testing.T) {
	for name, clock := range map[string]struct{ hub, domain time.Duration }{
		"hub": {at1970, rightClock}, "domain": {rightClock, at1970}, "both": {at1970, at1970},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClockedHome(t)
			c.start(clock.hub, clock.domain)
			c.awaitHub()
			c.adopt()
			for _, v := range c.certificates() {
				if left := time.Until(v.Expires.Time); left < 360*24*time.Hour {
					t.Errorf("the certificate of %s ends on %v", v.Name, v.Expires)
				}
			}
			t.Log("the clocks are set")
			c.restart(rightClock, rightClock)
			t.Log("the clocks are lost")
			c.restart(clock.hub, clock.domain)
			c.undisturbed()
		})
	}
}

// A home comes back after thirteen months, when all its certificates have ended, or one side of
// it alone, as its clock says: both know each other, and what has ended is renewed and reported.
func TestThirteenMonthsAway(t *testing.T) {
	for name, clock := range map[string]struct{ hub, domain time.Duration }{
		"hub": {thirteenMonths, rightClock}, "domain": {rightClock, thirteenMonths}, "both": {thirteenMonths, thirteenMonths},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClockedHome(t)
			c.start(rightClock, rightClock)
			c.awaitHub()
			c.adopt()
			c.restart(clock.hub, clock.domain)
			if clock.hub > 0 {
				c.event(topics.CertificateRenewed, "pi")
				eventually(t, "no certificate has ended", func() bool {
					return !slices.ContainsFunc(c.certificates(), func(v topics.CertificateView) bool {
						return time.Until(v.Expires.Time) < clock.hub
					})
				})
			}
			c.undisturbed()
			c.restart(clock.hub, clock.domain)
			c.undisturbed()
		})
	}
}
