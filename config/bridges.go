package config

import (
	"strings"

	"github.com/jmbarzee/dominion/broker/access"
)

// Bridge is one [[broker.bridges]]: messages that go to and come from another
// broker.
type Bridge struct {
	Name         string
	URL          string // mqtt[s]://[user@]host:port
	ClientID     string // at the other broker; "": dominion-bridge-<name>
	User         string // of our broker, whose rights bind what comes in and goes out; "": an admin's
	PasswordFile string
	CAFile       string
	CertFile     string
	KeyFile      string
	Topics       []BridgeTopic
}

// BridgeTopic is one entry of topics: what goes where.
type BridgeTopic struct {
	Filter       string
	Direction    string // BridgeOut, BridgeIn or BridgeBoth
	QoS          int    // 0 or 1, at the most
	LocalPrefix  string
	RemotePrefix string
}

// The directions of a BridgeTopic, as this home sees them.
const (
	BridgeOut  = "out"
	BridgeIn   = "in"
	BridgeBoth = "both"
)

func (t *table) bridges(b *Broker) {
	lines := make(map[string]int)
	for _, in := range t.tables("bridges", "name") {
		one := in.bridge()
		if first, twice := lines[one.Name]; twice && one.Name != "" {
			in.fault("name", "take one of them out", "the bridge %s is there already, from line %d on", quote(one.Name), first)
		}
		lines[one.Name] = in.l.lines[in.path]
		b.Bridges = append(b.Bridges, one)
	}
}

func (t *table) bridge() Bridge {
	defer t.close()
	var b Bridge
	if t.text("name", &b.Name) {
		nameOf("bridge")(b.Name).report(t, "name")
	}
	if b.Name == "" && t.valid("name") {
		t.fault("name", `write name = "attic"`, "a bridge needs a name")
	}
	t.text("url", &b.URL)
	u, wrong := checkURL(b.URL)
	wrong.report(t, "url")
	t.text("client_id", &b.ClientID)
	t.text("user", &b.User)
	t.file("password_file", &b.PasswordFile)
	t.file("cafile", &b.CAFile)
	t.file("cert_file", &b.CertFile)
	t.file("key_file", &b.KeyFile)
	if u != nil && t.valid("url") {
		switch {
		case b.PasswordFile != "" && u.User == nil:
			t.fault("password_file", `write the user into url: "mqtts://user@host:8883"`, "is of no use without a user")
		case (b.CAFile != "" || b.CertFile != "") && u.Scheme != "mqtts":
			t.fault("url", `write "mqtts://host:8883"`, "cafile and cert_file are of no use without TLS")
		}
	}
	if (b.CertFile == "") != (b.KeyFile == "") {
		t.fault("cert_file", "write both", "cert_file and key_file belong together")
	}
	for _, in := range t.tables("topics", "filter") {
		b.Topics = append(b.Topics, in.bridgeTopic())
	}
	if len(b.Topics) == 0 && t.valid("topics") {
		t.fault("topics", `write topics = [{ filter = "zigbee2mqtt/#", direction = "in" }]`, "the bridge carries nothing")
	}
	return b
}

func (t *table) bridgeTopic() BridgeTopic {
	defer t.close()
	b := BridgeTopic{QoS: 1}
	t.text("filter", &b.Filter)
	if err := access.CheckFilter(b.Filter); err != nil || strings.ContainsAny(b.Filter, "%$") {
		t.fault("filter", `write a filter, as "zigbee2mqtt/#"`, "%s is no filter of a bridge", quote(b.Filter))
	}
	t.text("direction", &b.Direction)
	switch b.Direction {
	case BridgeIn, BridgeOut, BridgeBoth:
	default:
		t.fault("direction", "use in, out or both, as this home sees it", "%s is no direction", quote(b.Direction))
	}
	t.within("qos", &b.QoS, 0, 1)
	for key, to := range map[string]*string{"local_prefix": &b.LocalPrefix, "remote_prefix": &b.RemotePrefix} {
		if t.text(key, to) && strings.ContainsAny(*to, "+#$\x00") {
			t.fault(key, `write the beginning of a topic, as "attic/"`, "%s is no beginning of a topic", quote(*to))
		}
	}
	return b
}
