package config

import (
	"strings"

	"github.com/jmbarzee/dominion/broker/access"
)

// Bridge is one [[broker.bridges]]: messages that go to and come from another
// broker.
type Bridge struct {
	Name string
	// URL is mqtt[s]://[user@]host:port.
	URL string
	// ClientID is the one at the other broker; "": dominion-bridge-<name>.
	ClientID string
	// User is one of our broker, whose rights bind what comes in and goes out; "": the
	// rights of an admin.
	User         string
	PasswordFile string
	CAFile       string
	CertFile     string
	KeyFile      string
	Topics       []BridgeTopic
}

// BridgeTopic is one entry of topics: what goes where.
type BridgeTopic struct {
	Filter string
	// Direction is BridgeOut, BridgeIn or BridgeBoth.
	Direction string
	// QoS is 0 or 1, at the most.
	QoS          int
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

// bridgeSettings returns the keys of an element of [[broker.bridges]].
func bridgeSettings() []setting[*Bridge] {
	return []setting[*Bridge]{
		{
			key: "name", of: func(b *Bridge) any { return &b.Name }, check: bridgeName,
			usual: "required",
			doc:   "of the bridge",
		},
		{
			key: "url", of: func(b *Bridge) any { return &b.URL },
			check: textCheck(func(s string) problem { _, wrong := checkURL(s); return wrong }),
			usual: "required",
			doc:   "of the other broker: `mqtt[s]://user@host:port`",
		},
		{
			key: "client_id", of: func(b *Bridge) any { return &b.ClientID },
			usual: "`\"dominion-bridge-NAME\"`",
			doc:   "at the other broker",
		},
		{
			key: "user", of: func(b *Bridge) any { return &b.User },
			doc: "of this broker, whose rights bind what comes in and goes out; without it those of an admin",
		},
		{
			key: "password_file", of: func(b *Bridge) any { return &b.PasswordFile }, isPath: true,
			doc: "with the password of the user in `url`",
		},
		{
			key: "cafile", of: func(b *Bridge) any { return &b.CAFile }, isPath: true,
			doc: "certificates that are trusted instead of the system's, PEM",
		},
		{
			key: "cert_file", of: func(b *Bridge) any { return &b.CertFile }, isPath: true,
			doc: "certificate that the bridge shows, PEM",
		},
		{
			key: "key_file", of: func(b *Bridge) any { return &b.KeyFile }, isPath: true,
			doc: "its key",
		},
		{
			key: "topics", of: func(b *Bridge) any { return &b.Topics },
			read: func(t *table, key string, b *Bridge) {
				for _, in := range t.tables(key, "filter") {
					b.Topics = append(b.Topics, in.bridgeTopic())
				}
			},
			inner: func() []row { return rowsOf(bridgeTopicSettings(), &defaultBridgeTopic) },
			usual: "required",
			doc:   "what goes where, as `[{ filter = \"zigbee2mqtt/#\", direction = \"in\" }]`: [a bridge](../how-to/bridge.md)",
		},
	}
}

func bridgeName(t *table, key string, v any) {
	name := *v.(*string)
	nameOf("bridge")(name).report(t, key)
	if name == "" && t.valid(key) {
		t.fault(key, `write name = "attic"`, "a bridge needs a name")
	}
}

// bridge reads an element of [[broker.bridges]], and reports what is wrong with keys of it
// together.
func (t *table) bridge() Bridge {
	defer t.close()
	var b Bridge
	readElement(t, bridgeSettings(), &b)
	if u, _ := checkURL(b.URL); u != nil && t.valid("url") {
		if b.PasswordFile != "" && u.User == nil {
			t.fault("password_file", `write the user into url: "mqtts://user@host:8883"`, "is of no use without a user")
		} else if (b.CAFile != "" || b.CertFile != "") && u.Scheme != "mqtts" {
			t.fault("url", `write "mqtts://host:8883"`, "cafile and cert_file are of no use without TLS")
		}
	}
	if (b.CertFile == "") != (b.KeyFile == "") {
		t.fault("cert_file", "write both", "cert_file and key_file belong together")
	}
	if len(b.Topics) == 0 && t.valid("topics") {
		t.fault("topics", `write topics = [{ filter = "zigbee2mqtt/#", direction = "in" }]`, "the bridge carries nothing")
	}
	return b
}

var defaultBridgeTopic = BridgeTopic{QoS: 1}

// bridgeTopicSettings returns the keys of an element of topics of a bridge.
func bridgeTopicSettings() []setting[*BridgeTopic] {
	return []setting[*BridgeTopic]{
		{
			key: "filter", of: func(b *BridgeTopic) any { return &b.Filter }, check: textCheck(bridgeFilter),
			usual: "required",
			doc:   "of the topics, without the prefixes",
		},
		{
			key: "direction", of: func(b *BridgeTopic) any { return &b.Direction }, check: textCheck(bridgeDirection),
			usual: "required",
			doc:   "`\"in\"`, `\"out\"` or `\"both\"`, as this home sees it",
		},
		{
			key: "qos", of: func(b *BridgeTopic) any { return &b.QoS },
			read: func(t *table, key string, b *BridgeTopic) { t.within(key, &b.QoS, 0, 1) },
			doc:  "0 or 1, at the most",
		},
		{
			key: "local_prefix", of: func(b *BridgeTopic) any { return &b.LocalPrefix }, check: textCheck(topicBeginning),
			doc: "before the topics of this broker, as `\"attic/\"`",
		},
		{
			key: "remote_prefix", of: func(b *BridgeTopic) any { return &b.RemotePrefix }, check: textCheck(topicBeginning),
			doc: "before the topics of the other broker",
		},
	}
}

func bridgeFilter(s string) problem {
	if err := access.CheckFilter(s); err != nil || strings.ContainsAny(s, "%$") {
		return problem{quote(s) + " is no filter of a bridge", `write a filter, as "zigbee2mqtt/#"`}
	}
	return problem{}
}

func bridgeDirection(s string) problem {
	switch s {
	case BridgeIn, BridgeOut, BridgeBoth:
		return problem{}
	}
	return problem{quote(s) + " is no direction", "use in, out or both, as this home sees it"}
}

func topicBeginning(s string) problem {
	if strings.ContainsAny(s, "+#$\x00") {
		return problem{quote(s) + " is no beginning of a topic", `write the beginning of a topic, as "attic/"`}
	}
	return problem{}
}

func (t *table) bridgeTopic() BridgeTopic {
	defer t.close()
	b := defaultBridgeTopic
	readElement(t, bridgeTopicSettings(), &b)
	return b
}
