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

// What Debian's mosquitto refuses of a bridge (a topic of its ACL, a payload beyond
// message_size_limit, a packet beyond max_packet_size) is left out and named; all
// behind it is carried, in order, by the same connection.
func TestBridgeRefusals(t *testing.T) {
	home := onEmbedded(t)
	attic := startMosquitto(t, home.Host("attic"))
	acl := filepath.Join(attic.host.Dir, "acl")
	attic.host.must(os.WriteFile(acl, []byte("user observer\ntopic readwrite #\nuser hub\ntopic readwrite shared/#\n"), 0o600))
	conf := filepath.Join(attic.host.Dir, "mosquitto.conf")
	text, err := os.ReadFile(conf)
	attic.host.must(err)
	attic.host.must(os.WriteFile(conf, fmt.Appendf(text, "acl_file %s\nmessage_size_limit 10000\nmax_packet_size 50000\n", acl), 0o600))
	attic.process.Kill()
	attic.start()
	home.Configure(fmt.Sprintf(`
[[broker.bridges]]
name = "attic"
url = %q
password_file = %q
cafile = %q
topics = [{ filter = "homeassistant/lamp/#", direction = "out" }, { filter = "shared/#", direction = "out" }]
`, attic.url("hub"), attic.passwordFile, attic.caFile))
	home.StartHub()
	o := home.Observe("$SYS/broker/connection/#")
	o.AwaitTopic(Mark{}, "$SYS/broker/connection/attic/state", "1")
	bridge := func() topics.BridgeView {
		t.Helper()
		r := home.Ctl("status", "--json")
		var overview topics.Overview
		if err := json.Unmarshal([]byte(r.Stdout), &overview); err != nil || len(overview.Bridges) != 1 {
			t.Fatalf("%v: %+v", err, r)
		}
		return overview.Bridges[0]
	}
	since := bridge().Since

	heard := filepath.Join(attic.host.Dir, "heard")
	attic.host.must(os.WriteFile(heard, nil, 0o644))
	listener := attic.host.Start("sh", "-c", "exec mosquitto_sub -q 1 -F '%t %l' -t 'shared/#' "+strings.Join(attic.login(), " ")+" >> "+heard)
	lines := func() []string {
		text, err := os.ReadFile(heard)
		attic.host.must(err)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	eventually(t, "the attic listens", func() bool {
		home.Publish("shared/begin", "1", "-q", "1")
		return lines()[0] != ""
	})
	for _, m := range []struct {
		topic, reason string
		size          int
	}{
		{"homeassistant/lamp/config", "not authorized (0x87)", 10},
		{"shared/large", "packet too large (0x95)", 20_000},
		{"shared/huge", "larger than the other broker accepts", 60_000},
	} {
		file := filepath.Join(home.Hub.Dir, "payload")
		home.Hub.must(os.WriteFile(file, make([]byte, m.size), 0o644))
		before := bridge().Refused
		if r := home.Hub.Exec(nil, "mosquitto_pub", "-h", home.Hub.Address(), "-q", "1", "-r", "-t", m.topic, "-f", file); r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		home.Publish("shared/behind", m.topic, "-q", "1")
		eventually(t, "what is behind "+m.topic+" comes", func() bool {
			all := lines()
			return all[len(all)-1] == fmt.Sprintf("shared/behind %d", len(m.topic))
		})
		v := bridge()
		if v.Refused <= before || v.LastRefusal == nil || !strings.Contains(v.LastRefusal.Reason, m.reason) || v.LastRefusal.Topic != m.topic {
			t.Errorf("%s: %+v %+v", m.topic, v, v.LastRefusal)
		}
		if !v.Connected || !v.Since.Equal(since.Time) {
			t.Errorf("%s: the bridge was connected anew: %+v", m.topic, v)
		}
	}
	if r := home.Ctl("status"); !strings.Contains(r.Stdout, "shared/huge") || !strings.Contains(r.Stdout, "the limit is 50000") || !strings.Contains(r.Stdout, "bridge attic") {
		t.Errorf("status says nothing of it:\n%s", r.Stdout)
	}
	listener.Kill()
}
