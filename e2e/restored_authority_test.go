package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A hub that was restored from a backup of before its authority was replaced is a stranger to its machines: each
// goes on with what it runs, is named in status with what that may mean, is taken back by its code, and
// obeys the hub then, although it has obeyed a later epoch of the key that the backup does not have.
func TestHubOfBeforeItsAuthorityWasReplaced(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("[timing]\nisolation = \"3s\"\n" + service("web", `priority = "required"`) + service("lamp"))
	data, backup := filepath.Join(home.Hub.Dir, "data"), filepath.Join(home.Hub.Dir, "backup")
	hub := home.startAskingHub()
	kitchen, _ := home.adoptedByCode("kitchen", "", "web", "lamp")
	home.Journal.AwaitRunning(t, "web@kitchen")
	hub.Stop()
	home.must(command("cp", "-a", data, backup))

	for range 3 { // the epoch goes on
		hub = home.startAskingHub()
		home.awaitHub()
		home.awaitState("kitchen", topics.DomainIsOnline)
		hub.Stop()
	}
	hub = home.startAskingHub()
	home.awaitHub()
	home.awaitState("kitchen", topics.DomainIsOnline)
	former := home.authority().Key
	home.authority("rotate")
	home.awaitAuthority("replaced", func(v topics.AuthorityView) bool { return v.Key != former })
	home.awaitState("kitchen", topics.DomainIsOnline)
	for _, order := range []string{"start", "stop"} { // by the hub's next key
		if r := home.control(order, "lamp", "--wait"); r.Code != 0 {
			t.Fatalf("%s: %+v", order, r)
		}
	}
	running, starts := home.Journal.AwaitRunning(t, "web@kitchen"), home.Journal.Starts(t)

	t.Log("the backup of before is restored")
	hub.Stop()
	home.must(command("rm", "-r", data))
	home.must(command("mv", backup, data))
	home.startAskingHub()
	home.awaitHub()
	home.awaitWaiting("kitchen")
	if status := home.control("status"); !strings.Contains(status.Stdout, "dominionctl authority rotate") {
		t.Errorf("status does not say what that may mean: %s", status.Stdout)
	}
	home.Journal.Undisturbed(t, "by a hub that is a stranger", running, starts)
	if r := home.control("adopt", "kitchen", kitchen.code()); r.Code != 0 {
		t.Fatalf("adopt: %+v", r)
	}
	home.awaitState("kitchen", topics.DomainIsOnline)
	if r := home.control("start", "lamp", "--wait"); r.Code != 0 {
		t.Errorf("the hub is not obeyed: %+v\n%s", r, home.control("status").Stdout)
	}
	home.Journal.Await(t, 2, "start", "lamp")
	if n := len(home.Journal.Of(t, "start", "web")); n != 1 {
		t.Errorf("web was started %d times", n)
	}
}
