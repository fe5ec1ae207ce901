package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A domain has the newest key list, and shows it to a hub whose list, and broker, were restored
// from a backup of before: what was revoked since is revoked again. A domain whose own key is
// revoked is out at once.
func TestRestoredHubIsShownTheKeyList(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("")
	hub := home.StartHub()
	pi := home.Domain("pi")
	pi.Configure(nil, home.hubAt())
	agent := pi.Start()
	home.awaitState("pi", topics.DomainIsOnline)

	t.Log("a backup, and then a revocation")
	data, backup := filepath.Join(home.Hub.Dir, "data"), filepath.Join(home.Hub.Dir, "backup")
	hub.Stop()
	home.must(command("cp", "-a", data, backup))
	hub = home.StartHub()
	hub.AwaitLog("the hub is ready")
	key := strings.Repeat("ab", 32)
	if r := home.control("certificates", "revoke", key); r.Code != 0 {
		t.Fatalf("revoke: %+v", r)
	}
	agent.AwaitLog("the dominion has a newer key list")

	t.Log("identity and broker are restored; the words of the domains are those of now")
	hub.Stop()
	home.must(command("cp", "-a", filepath.Join(data, "hub.json"), backup))
	home.must(command("rm", "-r", data))
	home.must(command("mv", backup, data))
	hub = home.StartHub()
	hub.AwaitLog("a key list that is newer than the hub's own was taken over")
	revoked := func(key string) bool {
		var listed []topics.CertificateView
		home.must(json.Unmarshal([]byte(home.control("certificates", "--json").Stdout), &listed))
		for _, c := range listed {
			if strings.HasPrefix(c.Key, key) {
				return c.Revoked
			}
		}
		return false
	}
	if !revoked(key) {
		t.Errorf("not revoked: %+v", home.control("certificates"))
	}

	t.Log("the domain's own key is revoked")
	label := home.awaitState("pi", topics.DomainIsOnline).Key
	if label == "" {
		var listed []topics.CertificateView
		home.must(json.Unmarshal([]byte(home.control("certificates", "--json").Stdout), &listed))
		for _, c := range listed {
			if c.Use == "domain" {
				label = c.Key
			}
		}
	}
	if r := home.control("certificates", "revoke", label); r.Code != 0 {
		t.Fatalf("revoke %s: %+v", label, r)
	}
	home.event(topics.DomainRevoked, "pi")
	hub.AwaitLog("cannot verify the certificate of domain")
}
