package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// longVariable makes TestCertificatesOfAMinute last an hour, or as long as its value says.
const longVariable = "DOMINION_E2E_LONG"

// Certificates that last a minute are renewed every forty seconds while messages pass and
// services are started and stopped: no connection ends, no order is refused, nothing that runs
// is touched.
func TestCertificatesOfAMinute(t *testing.T) {
	home := onEmbedded(t)
	within := 85 * time.Second
	if text := os.Getenv(longVariable); text != "" {
		within = time.Hour
		if d, err := time.ParseDuration(text); err == nil {
			within = d
		}
	}
	home.adoptionHub("[identity]\nlifetime = \"1m\"\nadoption = \"open\"\n" + service("web", `priority = "required"`, `replicas = 3`) + service("lamp"))
	hub := home.StartHub()
	var agents []*Process
	names := []string{"kitchen", "attic", "cellar"}
	for _, name := range names {
		d := home.Domain(name)
		d.Configure(nil, home.hubAt())
		d.Install("web", "lamp")
		agents = append(agents, d.Start())
	}
	for _, name := range names {
		home.awaitState(name, topics.DomainIsOnline)
	}
	running := home.Journal.AwaitRunning(t, "web@attic", "web@cellar", "web@kitchen")
	load := home.Hub.Start("sh", "-c", "mosquitto_sub -h 127.0.0.1 -t load >/dev/null & while :; do seq 50; sleep 1; done | mosquitto_pub -h 127.0.0.1 -q 1 -t load -l")

	began, orders := time.Now(), 0
	issued, renewals := make(map[string]time.Time), make(map[string]int)
	look := func() {
		var all []topics.CertificateView
		home.must(json.Unmarshal([]byte(home.control("certificates", "--json").Stdout), &all))
		for _, c := range all {
			id := c.Use + " " + c.Name
			if before, was := issued[id]; was && c.Issued.After(before) {
				renewals[id]++
			}
			issued[id] = c.Issued.Time
		}
		for name, d := range home.domains() {
			if d.State != topics.DomainIsOnline {
				t.Errorf("after %v %s is %s: %s", time.Since(began).Round(time.Second), name, d.State, d.Problem)
			}
		}
	}
	for time.Since(began) < within && !t.Failed() {
		look()
		for _, verb := range []string{"start", "stop"} {
			orders++
			if r := home.control(verb, "lamp", "--wait", "--timeout", "1m"); r.Code != 0 {
				t.Errorf("after %v: %s: %+v", time.Since(began).Round(time.Second), verb, r)
			}
		}
		time.Sleep(5 * time.Second) // between two orders
	}
	look()
	t.Logf("%d orders in %v; renewals: %v", orders, time.Since(began).Round(time.Second), renewals)
	least := int(within/(40*time.Second)) - 1
	for id := range issued {
		if strings.HasPrefix(id, "service lamp") { // it does not run when it is off
			continue
		}
		if renewals[id] < least {
			t.Errorf("the certificate of %s was renewed %d times, want %d", id, renewals[id], least)
		}
	}
	for _, p := range append(agents, hub) {
		lines, _ := p.log.from(0)
		for _, bad := range []string{"event=domain_offline", "event=domain_lost", "lost the connection", "refused", "cannot "} {
			if i := slices.IndexFunc(lines, func(l string) bool {
				return strings.Contains(l, bad) && !strings.Contains(l, "cannot ask for adoption")
			}); i >= 0 {
				t.Errorf("%s: %s", p.Name, lines[i])
			}
		}
	}
	if load.Ended() {
		t.Error("the load has ended")
	}
	if after := home.Journal.AwaitRunning(t, "web@attic", "web@cellar", "web@kitchen"); fmt.Sprint(after) != fmt.Sprint(running) {
		t.Errorf("web ran as %v and runs as %v", running, after)
	}
}
