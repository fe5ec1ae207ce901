package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// The directory in which an agent keeps what it knows is removed, and so is its key: the
// environment of the processes says whose they are, and the next agent takes
// them over, with the id that the hub knows. It waits for adoption while they run, and
// adopt --replace takes it back.
func TestDataDirIsRemoved(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	home.Configure(service("web", `priority = "required"`, `replicas = 1`, `port = 8123`, healthHTTP))
	_, agents, o := home.Up(kitchen)
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	id := o.Latest().Domain("kitchen").ID
	before, starts := home.Lives(o)

	kitchen.must(os.RemoveAll(kitchen.DataDir()))
	agents[0].Kill()
	kitchen.Start()
	home.awaitWaiting("kitchen")
	code := kitchen.code()
	if r := home.control("adopt", "kitchen", code); r.Code != 1 || !strings.Contains(r.Stderr, "dominionctl adopt kitchen CODE --replace") {
		t.Errorf("adopt: %+v", r)
	}
	if r := home.control("adopt", "kitchen", code, "--replace"); r.Code != 0 {
		t.Fatalf("adopt --replace: %+v", r)
	}
	o.Until("web is healthy", func(v View) bool {
		return v.Online("kitchen") && v.Healthy("web", 1) && v.Instance("kitchen", "web").State == topics.Running
	})
	if is := o.Latest().Domain("kitchen").ID; is != id {
		t.Errorf("the domain was %s and is %s", id, is)
	}
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	home.Journal.Undisturbed(t, "after data_dir was removed", before, starts)
	var issued []topics.CertificateView
	home.must(json.Unmarshal([]byte(home.control("certificates", "--json").Stdout), &issued))
	revoked := map[bool]int{}
	for _, c := range issued {
		if c.Use == "domain" {
			revoked[c.Revoked]++
		}
	}
	if revoked[true] != 1 || revoked[false] != 1 {
		t.Errorf("the former key alone should be revoked: %+v", issued)
	}
}
