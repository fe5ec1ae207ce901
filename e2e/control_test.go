package e2e

import (
	"os"
	"strings"
	"testing"
)

// Private requests: dominionctl on the hub's machine uses the control socket by itself,
// a plain connection is refused with the remedy, and what runs on the hub's machine as
// another user, such as a service, can use neither.
func TestPrivateRequests(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.Configure("")
		home.Up()
		broker := strings.TrimPrefix(home.ctlEnvironment()[0], "DOMINION_URL=")
		forget := func(prefix []string, env ...string) Result {
			args := append(prefix, programs.dominionctl, "forget", "cellar")
			return home.Hub.Exec(env, args[0], args[1:]...)
		}
		if r := home.Ctl("forget", "cellar"); r.Code != 1 || !strings.Contains(r.Stderr, `there is no domain "cellar"`) {
			t.Errorf("by the control socket: %+v", r)
		}
		if info, err := os.Lstat(home.ControlSocket()); err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("the control socket: %v %v", info, err)
		}
		if home.external == nil {
			if r := forget(nil, "DOMINION_URL=mqtt://127.0.0.1:1883"); r.Code != 1 || !strings.Contains(r.Stderr, `there is no domain "cellar"`) {
				t.Errorf("by the socket that the hub names: %+v", r)
			}
			if r := home.observer.Exec([]string{"DOMINION_URL=" + broker}, programs.dominionctl, "forget", "cellar"); r.Code != 1 || !strings.Contains(r.Stderr, "on the hub's machine") {
				t.Errorf("from another machine, unencrypted: %+v", r)
			}
		}
		service := []string{"setpriv", "--reuid", "nobody", "--clear-groups", "--"}
		for _, url := range []string{"unix:" + home.ControlSocket(), broker} {
			if r := forget(service, "DOMINION_URL="+url); r.Code == 0 || strings.Contains(r.Stderr, "there is no domain") {
				t.Errorf("as a service, by %s: %+v", url, r)
			}
		}
	})
}
