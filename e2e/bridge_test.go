package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A bridge to Debian's mosquitto in the attic, by TLS and password, both ways:
// through a cut link and a restart of either side nothing is lost, and nothing
// goes round in circles.
func TestBridge(t *testing.T) {
	home := onEmbedded(t)
	attic := startMosquitto(t, home.Host("attic"))
	home.Configure(fmt.Sprintf(`
[[broker.bridges]]
name = "attic"
url = %q
password_file = %q
cafile = %q
topics = [
	{ filter = "zigbee2mqtt/#", direction = "in", local_prefix = "attic/" },
	{ filter = "shared/#", direction = "both" },
]
`, attic.url("hub"), attic.passwordFile, attic.caFile))
	hub := home.StartHub()
	o := home.Observe("#", "$SYS/broker/connection/#")
	o.AwaitTopic(Mark{}, "$SYS/broker/connection/attic/state", "1")

	// what the attic hears, as a client there writes it down
	heard := filepath.Join(attic.host.Dir, "heard")
	listener := attic.host.Start("sh", "-c", strings.Join(append([]string{
		"exec mosquitto_sub -q 1 -i listener -c -V 5 -x 3600 -F '%t %p' -t 'shared/#'",
	}, attic.login()...), " ")+" >> "+heard)
	say := func(topic, payload string, flags ...string) {
		t.Helper()
		args := append([]string{"-q", "1", "-t", topic, "-m", payload}, flags...)
		if r := attic.host.Exec(nil, "mosquitto_pub", append(args, attic.login()...)...); r.Code != 0 {
			t.Fatalf("mosquitto_pub in the attic: %s%s", r.Stdout, r.Stderr)
		}
	}
	attic.host.must(os.WriteFile(heard, nil, 0o644))
	lines := func() []string {
		text, err := os.ReadFile(heard)
		attic.host.must(err)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	hears := func(want string) {
		t.Helper()
		eventually(t, "the attic hears "+want, func() bool {
			for _, l := range lines() {
				if l == want {
					return true
				}
			}
			return false
		})
	}
	t.Log("both ways")
	eventually(t, "the attic listens", func() bool {
		home.Publish("shared/begin", "1", "-q", "1")
		return strings.Contains(strings.Join(lines(), "\n"), "shared/begin 1")
	})
	since := o.Now()
	say("zigbee2mqtt/lamp", "on", "-r")
	o.AwaitTopic(since, "attic/zigbee2mqtt/lamp", "on")
	say("shared/up", "a")
	o.AwaitTopic(since, "shared/up", "a")
	home.Publish("shared/down", "b", "-q", "1")
	hears("shared/down b")

	t.Log("a cut link, on whose two sides people go on")
	attic.host.LinkDown()
	o.AwaitTopic(since, "$SYS/broker/connection/attic/state", "0")
	for i := range 100 {
		home.Publish("shared/down", fmt.Sprint("cut-", i), "-q", "1")
		say("shared/up", fmt.Sprint("cut-", i))
	}
	attic.host.LinkUp()
	o.AwaitTopic(since, "shared/up", "cut-99")
	hears("shared/down cut-99")

	t.Log("kill -9 of the hub while much goes out, and a restart of the other broker")
	attic.host.LinkDown()
	for i := range 50 {
		home.Publish("shared/down", fmt.Sprint("kill-", i), "-q", "1")
	}
	hub.Kill()
	attic.host.LinkUp()
	home.StartHub()
	hears("shared/down kill-49")
	o2 := home.Observe("#", "$SYS/broker/connection/#")
	mark := o2.Now()
	attic.process.Signal(syscall.SIGTERM)
	attic.process.Wait()
	o2.AwaitTopic(mark, "$SYS/broker/connection/attic/state", "0")
	home.Publish("shared/down", "while it was away", "-q", "1")
	mark = o2.Now()
	attic.start()
	o2.AwaitTopic(mark, "$SYS/broker/connection/attic/state", "1")
	listener.Kill()

	// a message may come once by each connection that there was
	most := 1
	for _, m := range slices.Concat(o.Since(since), o2.Since(Mark{})) {
		if m.Topic == "$SYS/broker/connection/attic/state" && m.Payload == "1" {
			most++
		}
	}
	counts := make(map[string]int)
	for _, l := range lines() {
		counts[l]++
	}
	for i := range 100 {
		if n := counts[fmt.Sprint("shared/down cut-", i)]; n < 1 || n > most {
			t.Errorf("cut-%d came down %d times", i, n)
		}
	}
	for i := range 50 {
		if n := counts[fmt.Sprint("shared/down kill-", i)]; n < 1 || n > most {
			t.Errorf("kill-%d came down %d times", i, n)
		}
	}
	if n := counts["shared/down b"]; n != 1 {
		t.Errorf("b came %d times", n)
	}
	up := make(map[string]int)
	for _, m := range o.Since(since) {
		if m.Topic == "shared/up" {
			up[m.Payload]++
		}
	}
	for i := range 100 {
		if n := up[fmt.Sprint("cut-", i)]; n < 1 || n > most {
			t.Errorf("cut-%d came up %d times", i, n)
		}
	}
}
