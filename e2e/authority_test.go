package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// adoptedByCode starts a domain that is adopted by its code, and waits until it is online.
func (h *Home) adoptedByCode(name, rest string, services ...string) (*Domain, *Process) {
	h.t.Helper()
	d := h.Domain(name)
	d.Configure(nil, h.hubAt()+rest)
	d.Install(services...)
	agent := d.startAsking()
	h.awaitState(name, topics.DomainIsWaiting)
	if r := h.control("adopt", name, d.code()); r.Code != 0 {
		h.t.Fatalf("adopt %s: %+v", name, r)
	}
	return d, agent
}

// authority returns what dominionctl authority says.
func (h *Home) authority(args ...string) topics.AuthorityView {
	h.t.Helper()
	var v topics.AuthorityView
	r := h.control(append([]string{"authority", "--json"}, args...)...)
	if r.Code != 0 {
		h.t.Fatalf("authority %s: %+v", args, r)
	}
	h.must(json.Unmarshal([]byte(r.Stdout), &v))
	return v
}

// awaitAuthority waits until the authority is as a condition wants it.
func (h *Home) awaitAuthority(what string, is func(topics.AuthorityView) bool) {
	h.t.Helper()
	var last topics.AuthorityView
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Millisecond) {
		if last = h.authority(); is(last) {
			return
		}
	}
	h.t.Fatalf("not %s: %+v", what, last)
}

// The authority's key is taken away: nobody notices. A new domain is adopted and an old one
// renews its certificate, both by the intermediate, and the key is in no file any more.
func TestAuthorityOffline(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("[identity]\nlifetime = \"1m\"\n")
	hub := home.startAskingHub()
	home.adoptedByCode("old", "")
	before := home.control("ca").Stdout
	root := filepath.Join(home.Hub.Dir, "data", "identity", "authority.key")

	taken := filepath.Join(t.TempDir(), "taken")
	home.must(os.WriteFile(taken, []byte("mine"), 0o600))
	if r := home.control("authority", "offline", taken); r.Code != 1 || !strings.Contains(r.Stderr, "exists") {
		t.Errorf("a file that exists: %+v", r)
	}
	if _, err := os.Stat(root); err != nil {
		t.Fatalf("the key is gone: %v", err)
	}
	file := filepath.Join(t.TempDir(), "authority.pem")
	r := home.control("authority", "offline", file)
	if r.Code != 0 {
		t.Fatalf("authority offline: %+v", r)
	}
	text, err := os.ReadFile(file)
	home.must(err)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	secret := strings.Split(string(text), "\n")[1] // the first line of the key itself
	noneShows(t, "dominionctl", r.Stdout+r.Stderr, secret)
	noFileShows(t, home.dir, secret)
	if again := home.control("authority", "offline", file); again.Code != 1 || !strings.Contains(again.Stderr, "not here") {
		t.Errorf("taken offline twice: %+v", again)
	}
	if r := home.control("authority", "rotate"); r.Code != 1 || !strings.Contains(r.Stderr, "not here") {
		t.Errorf("an intermediate replaces the authority: %+v", r)
	}

	home.adoptedByCode("new", "")
	home.event(topics.CertificateRenewed, "the certificate of old was renewed")
	hub.Stop()
	hub = home.startAskingHub()
	home.awaitState("old", topics.DomainIsOnline)
	home.awaitState("new", topics.DomainIsOnline)
	if after := home.control("ca").Stdout; after != before || after == "" {
		t.Error("another authority")
	}

	t.Log("its key is back: another intermediate takes the place of the first one, which is revoked")
	hub.Stop()
	home.must(os.WriteFile(root, text, 0o600))
	home.startAskingHub()
	home.awaitHub()
	if home.authority().Offline {
		t.Error("the key that is back does not sign")
	}
	if r := home.control("authority", "offline", file); r.Code != 0 {
		t.Fatalf("authority offline again: %+v", r)
	}
	noFileShows(t, home.dir, secret)
	home.awaitState("old", topics.DomainIsOnline)
	home.awaitState("new", topics.DomainIsOnline)
}

// Another authority and key of the hub are used when all domains have them: one that is away
// is named and waited for, over a restart of the hub. Services run on, the hub orders, and who
// trusts the former authority still verifies the hub.
func TestAuthorityRotate(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.adoptionHub("[services.web]\npriority = \"required\"\n")
		hub := home.startAskingHub()
		pi, agent := home.adoptedByCode("pi", "", "web")
		attic, away := home.adoptedByCode("attic", "")
		home.Journal.AwaitRunning(t, "web@pi")
		ca := filepath.Join(t.TempDir(), "ca.pem")
		home.must(os.WriteFile(ca, []byte(home.control("ca").Stdout), 0o644))
		before := home.authority()

		away.Stop()
		if v := home.authority("rotate"); v.Next == "" || v.Next == before.Key {
			t.Fatalf("rotate: %+v", v)
		}
		home.awaitAuthority("stored by pi", func(v topics.AuthorityView) bool {
			return fmt.Sprint(v.Has, v.Missing) == "[pi] [attic]" && v.Key == before.Key
		})
		hub.Stop()
		hub = home.startAskingHub()
		home.awaitState("pi", topics.DomainIsOnline)
		if v := home.authority(); fmt.Sprint(v.Has, v.Missing) != "[pi] [attic]" || v.Key != before.Key {
			t.Errorf("after a restart: %+v", v)
		}
		if status := home.control("status"); !strings.Contains(status.Stdout, "waits for attic") {
			t.Errorf("status names nobody: %s", status.Stdout)
		}

		attic.startAsking()
		home.event(topics.KeyRotated, "the authority was replaced")
		home.awaitAuthority("replaced", func(v topics.AuthorityView) bool { return v.Next == "" && v.Key != before.Key })
		home.event(topics.CertificateRenewed, "the certificate of pi was renewed")
		home.event(topics.CertificateRenewed, "the certificate of attic was renewed")
		home.awaitState("pi", topics.DomainIsOnline)
		home.awaitState("attic", topics.DomainIsOnline)
		if r := home.control("restart", "web", "--wait", "--timeout", "30s"); r.Code != 0 {
			t.Errorf("an order by the new key: %+v", r)
		}
		if home.external == nil {
			r := home.Hub.Exec(nil, programs.dominionctl, "--hub", "mqtts://localhost:8883", "--cafile", ca, "version")
			if strings.Contains(r.Stderr, "unknown authority") || strings.Contains(r.Stderr, "x509") {
				t.Errorf("by the former authority: %+v", r)
			}
		}
		hub.Stop()
		agent.Stop()
		home.startAskingHub()
		pi.startAsking()
		home.awaitState("pi", topics.DomainIsOnline)
	})
}

// An authority that is compromised ends at once. A domain that was away is named, and gets its home back
// by its code.
func TestAuthorityCompromised(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("[timing]\nisolation = \"3s\"\n" + service("web", `priority = "required"`))
	home.startAskingHub()
	pi, _ := home.adoptedByCode("pi", "")
	attic, away := home.adoptedByCode("attic", "")
	pi.Write("web", "Makefile", "run:\n\t@exec sh ./run.sh\n")
	pi.Write("web", "run.sh", strings.ReplaceAll(publishes, "@JOURNAL@", home.Journal.file))
	certificate := func() string {
		text, _ := os.ReadFile(filepath.Join(pi.DataDir(), "credentials", "web", "cert.pem"))
		return string(text)
	}
	published := func() string { return fmt.Sprintf("sensor/web %x", sha256.Sum256([]byte(certificate()))) }
	eventually(t, "web has a certificate", func() bool { return certificate() != "" })
	heard := home.Hub.Start("mosquitto_sub", "-h", "127.0.0.1", "-t", "sensor/#", "-v")
	heard.AwaitLog(published())
	former := certificate()
	before := home.authority()
	away.Stop()
	home.authority("rotate", "--compromised")
	home.event(topics.KeyRotated, "attic had not stored it")
	home.awaitState("pi", topics.DomainIsOnline)
	v := home.authority()
	if v.Key == before.Key || fmt.Sprint(v.Behind) != "[attic]" {
		t.Errorf("%+v", v)
	}
	if status := home.control("status"); !strings.Contains(status.Stdout, "attic had not stored the authority") {
		t.Errorf("status names nobody: %s", status.Stdout)
	}

	t.Log("a service gets another certificate while it runs")
	eventually(t, "web has another certificate", func() bool { return certificate() != former && certificate() != "" })
	heard.AwaitLog(published())
	if starts := home.Journal.Of(t, "start", "web"); len(starts) != 1 {
		t.Errorf("web was started %d times", len(starts))
	}

	attic.startAsking()
	home.awaitWaiting("attic")
	if r := home.control("adopt", "attic", attic.code()); r.Code != 0 {
		t.Fatalf("adopt: %+v", r)
	}
	home.awaitState("attic", topics.DomainIsOnline)
	home.awaitAuthority("stored by attic", func(v topics.AuthorityView) bool { return len(v.Behind) == 0 })
}
