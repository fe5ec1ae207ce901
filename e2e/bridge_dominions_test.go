package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A bridge between two dominions, each on a host of its own, as a user of the
// other who may no more than a device: both ways, once each, through a kill -9
// of either, and what nobody keeps is counted.
func TestBridgeBetweenDominions(t *testing.T) {
	home := onEmbedded(t)
	cottage := home.Host("cottage")
	password := filepath.Join(cottage.Dir, "password")
	config := filepath.Join(cottage.Dir, "dominion.toml")
	cottage.must(os.WriteFile(password, []byte("correct-horse\nof the bridge\n"), 0o600))
	cottage.must(os.WriteFile(config, fmt.Appendf(nil, `name = "cottage"
data_dir = %q
[broker]
listen = ":1883"
[[broker.users]]
name = "me"
password_file = %q
role = "admin"
[[broker.users]]
name = "home"
password_file = %q
role = "device"
`, filepath.Join(cottage.Dir, "data"), password, password), 0o644))
	home.Configure(fmt.Sprintf(`
[[broker.bridges]]
name = "cottage"
url = "mqtt://home@%s:1883"
password_file = %q
topics = [
	{ filter = "#", direction = "in", local_prefix = "cottage/", remote_prefix = "zigbee2mqtt/" },
	{ filter = "shared/#", direction = "both" },
]
`, cottage.Address(), password))
	there := cottage.Start(programs.dominion, "-config", config)
	hub := home.StartHub()
	o := home.Observe("#", "$SYS/broker/connection/#")
	carries := func(o *Observer, since Mark) { o.AwaitTopic(since, "$SYS/broker/connection/cottage/state", "1") }
	carries(o, Mark{})

	login := []string{"-h", cottage.Address(), "-u", "me", "-P", "correct-horse"}
	say := func(topic, payload string, flags ...string) {
		t.Helper()
		args := append([]string{"-q", "1", "-t", topic, "-m", payload}, flags...)
		eventually(t, "the cottage takes "+payload, func() bool {
			return cottage.Exec(nil, "mosquitto_pub", append(args, login...)...).Code == 0
		})
	}
	heard := filepath.Join(cottage.Dir, "heard")
	cottage.must(os.WriteFile(heard, nil, 0o644))
	listener := cottage.Start("sh", "-c", "exec mosquitto_sub -q 1 -i listener -c -V 5 -x 3600 -F '%t %p' -t '#' "+strings.Join(login, " ")+" >> "+heard)
	counts := func() map[string]int {
		text, err := os.ReadFile(heard)
		cottage.must(err)
		n := make(map[string]int)
		for line := range strings.Lines(string(text)) {
			n[strings.TrimSpace(line)]++
		}
		return n
	}
	hears := func(want string) {
		t.Helper()
		eventually(t, "the cottage hears "+want, func() bool { return counts()[want] > 0 })
	}
	eventually(t, "the cottage listens", func() bool {
		home.Publish("shared/begin", "1", "-q", "1")
		return counts()["shared/begin 1"] > 0
	})

	t.Log("both ways, once each")
	since := o.Now()
	say("zigbee2mqtt/lamp", "on", "-r")
	o.AwaitTopic(since, "cottage/lamp", "on")
	say("shared/up", "a")
	o.AwaitTopic(since, "shared/up", "a")
	home.Publish("shared/down", "b", "-q", "1")
	hears("shared/down b")
	for i := range 10 { // what goes in circles goes fast
		home.Publish("shared/down", fmt.Sprint("round-", i))
		hears(fmt.Sprint("shared/down round-", i))
	}
	if n := counts(); n["shared/down b"] != 1 || n["shared/up a"] != 1 {
		t.Errorf("heard in the cottage: %v", n)
	}

	t.Log("kill -9 of the other dominion, and people go on here")
	since = o.Now()
	there.Kill()
	o.AwaitTopic(since, "$SYS/broker/connection/cottage/state", "0")
	for i := range 30 {
		home.Publish("shared/down", fmt.Sprint("kept-", i))
		home.Publish("shared/down", fmt.Sprint("lost-", i), "-q", "0")
	}
	r := home.Ctl("clients", "--json")
	var clients []topics.ClientView
	if err := json.Unmarshal([]byte(r.Stdout), &clients); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	var missed uint64
	for _, c := range clients {
		if c.Client == "bridge-cottage" {
			missed = c.Dropped
		}
	}
	if missed != 30 {
		t.Errorf("the bridge missed %d messages of QoS 0, want 30: %s", missed, r.Stdout)
	}
	since = o.Now()
	cottage.Start(programs.dominion, "-config", config)
	carries(o, since)
	hears("shared/down kept-29")

	t.Log("kill -9 of the dominion with the bridge, and people go on there")
	hub.Kill()
	for i := range 30 {
		say(fmt.Sprint("shared/up/", i), "kept", "-r") // retained, for whoever listens later
	}
	home.StartHub()
	again := home.Observe("#", "$SYS/broker/connection/#")
	carries(again, Mark{})
	for i := range 30 {
		again.AwaitTopic(Mark{}, fmt.Sprint("shared/up/", i), "kept")
	}
	home.Publish("shared/down", "end", "-q", "1")
	hears("shared/down end")
	listener.Kill()

	n := counts()
	for i := range 30 {
		if k := n[fmt.Sprint("shared/down kept-", i)]; k < 1 || k > 2 {
			t.Errorf("kept-%d came to the cottage %d times", i, k)
		}
		if n[fmt.Sprint("shared/down lost-", i)] != 0 {
			t.Errorf("lost-%d came to the cottage and was counted as lost", i)
		}
	}
	up := make(map[string]int)
	for _, m := range o.Since(Mark{}) {
		if m.Topic == "shared/up" {
			up[m.Payload]++
		}
	}
	if up["a"] != 1 {
		t.Errorf("a came %d times", up["a"])
	}
}
