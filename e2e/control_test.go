package e2e

import (
	"os"
	"path/filepath"
	"slices"
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
		// A deployed service on the hub's machine can neither deploy nor adopt nor read a secret.
		service := []string{"setpriv", "--reuid", "nobody", "--clear-groups", "--"}
		for _, url := range []string{"unix:" + home.ControlSocket(), broker, "mqtt://127.0.0.1:1883"} {
			for _, verb := range [][]string{
				{"forget", "cellar"},
				{"adopt", "pi", "K7QF-2M9X-4T1R"},
				{"permit-join"},
				{"token", "create"},
				{"token", "list"},
				{"secret", "list"},
				{"user", "list"},
				{"certificates"},
			} {
				args := append(append(slices.Clone(service), programs.dominionctl, "--timeout", "3s"), verb...)
				r := home.Hub.Exec([]string{"DOMINION_URL=" + url}, args[0], args[1:]...)
				if r.Code == 0 || r.Stdout != "" || strings.Contains(r.Stderr, "there is no domain") || strings.Contains(r.Stderr, "waits for adoption") {
					t.Errorf("%s as a service, by %s: %+v", verb, url, r)
				}
			}
		}
		files, err := filepath.Glob(filepath.Join(filepath.Dir(home.ControlSocket()), "identity", "*"))
		if err != nil || len(files) < 4 {
			t.Errorf("the hub's keys are %v, %v", files, err)
		}
		for _, file := range append(files, filepath.Join(filepath.Dir(home.ControlSocket()), "hub.json")) {
			args := append(slices.Clone(service), "cat", file)
			if r := home.Hub.Exec(nil, args[0], args[1:]...); r.Code == 0 {
				t.Errorf("a service reads %s", file)
			}
		}
	})
}
