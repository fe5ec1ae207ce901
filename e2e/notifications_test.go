package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A bridge of mosquitto with notifications, both ways: as a device, whose state
// and will are dropped, and as an admin, whose state is there.
func TestMosquittoBridgeWithNotifications(t *testing.T) {
	needs(t, "mosquitto", "mosquitto_sub")
	home, _ := guarded(t)
	hub := home.StartHub()
	hub.AwaitLog("the hub is ready")
	sub := func(host *Host, args []string, topic string) string {
		t.Helper()
		r := host.Exec(nil, "mosquitto_sub", append(args, "-t", topic, "-C", "1", "-W", "60")...)
		if r.Code != 0 {
			t.Fatalf("nothing came at %s: %+v\n%s", topic, r, hub.tail(40))
		}
		return r.Stdout
	}
	pub := func(host *Host, args []string, topic string) {
		t.Helper()
		if r := host.Exec(nil, "mosquitto_pub", append(args, "-t", topic, "-m", "x", "-q", "1", "-r")...); r.Code != 0 {
			t.Fatalf("cannot publish to %s: %+v", topic, r)
		}
	}
	admin := home.as("admin", "")
	for _, user := range []string{"device", "admin"} {
		attic := home.Host("attic-" + user)
		file := filepath.Join(attic.Dir, "mosquitto.conf")
		home.must(os.WriteFile(file, fmt.Appendf(nil, `user root
listener 1883
allow_anonymous true
connection hub
address %s:1883
remote_clientid attic-%s
remote_username %s
remote_password secret of %s
topic %s/up/# out 1
topic %s/down/# in 1
notifications true
`, home.Hub.Address(), user, user, user, user, user), 0o600))
		attic.Start("mosquitto", "-c", file)
		there := []string{"-h", attic.Address()}
		eventually(t, "mosquitto listens", func() bool {
			c, err := attic.Dial("tcp", attic.Address()+":1883")
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		pub(attic, there, user+"/up/a")
		sub(home.observer, admin, user+"/up/a")
		pub(home.observer, admin, user+"/down/a")
		sub(attic, there, user+"/down/a")
		if user == "admin" {
			if state := sub(home.observer, admin, "$SYS/broker/connection/attic-admin/state"); state != "1\n" {
				t.Errorf("the state of the bridge is %q", state)
			}
		}
	}
	hub.AwaitLog("its will is dropped", "attic-device")
}
