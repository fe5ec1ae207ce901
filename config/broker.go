package config

import (
	"net"
	"strings"

	"github.com/jmbarzee/dominion/broker/access"
)

// Broker is [broker]. With External set the hub embeds no broker and the
// listeners and users are without meaning.
type Broker struct {
	// Listen and ListenTLS are host:port; "": no such listener; port 0: any free one.
	Listen, ListenTLS string
	// ListenTLSIsDefault says that the file does not name the address: where it is taken
	// the hub goes on without.
	ListenTLSIsDefault bool
	// ListenWS and ListenWSS are the same for MQTT over WebSocket.
	ListenWS, ListenWSS string
	// ListenUnix is the path of a Unix socket; "": none.
	ListenUnix        string
	CertFile, KeyFile string
	// ClientCAFile holds the authorities of the certificates of clients; "": none are
	// requested.
	ClientCAFile       string
	RequireCertificate bool
	AllowAnonymous     bool
	// External is mqtt[s]://[user@]host:port, or several with commas between them: see
	// Addresses.
	External string
	// PasswordFile and CAFile are for External.
	PasswordFile, CAFile string
	// Users, Rules and Bridges are in the order of the file.
	Users       []User
	Rules       []access.Rule
	Bridges     []Bridge
	Persistence Persistence
	Limits      Limits
	UserLimits  UserLimits
}

// The addresses where nothing else is configured.
const (
	DefaultListen    = "127.0.0.1:1883"
	DefaultListenTLS = ":8883"
)

// brokerSection returns [broker]: listeners, TLS, users, bridges and rules of the embedded
// broker, or the address of another one.
func brokerSection() section[*Dominion] {
	return section[*Dominion]{
		path: "broker",
		settings: []setting[*Dominion]{
			{
				key: "listen", of: func(d *Dominion) any { return &d.Broker.Listen }, def: DefaultListen,
				check: optionalText(checkListen),
				doc:   "MQTT; `\":1883\"` for every address, `\"\"` for none",
			},
			{
				key: "listen_tls", of: func(d *Dominion) any { return &d.Broker.ListenTLS }, def: DefaultListenTLS,
				also:  func(d *Dominion) any { return d.Broker.ListenTLSIsDefault },
				check: optionalText(checkListen),
				doc:   "MQTT over TLS, with the dominion's own certificate or `cert_file` and `key_file`; `\"\"` for none. A default port that is taken is a problem in `status` until it is free, one that is written here ends the start",
			},
			{
				key: "listen_ws", of: func(d *Dominion) any { return &d.Broker.ListenWS },
				check: optionalText(checkListen),
				doc:   "a further address of MQTT over WebSocket, for one more version: `[http]` has it at `/mqtt`",
			},
			{
				key: "listen_wss", of: func(d *Dominion) any { return &d.Broker.ListenWSS },
				check: optionalText(checkListen),
				doc:   "the same with TLS",
			},
			{
				key: "listen_unix", of: func(d *Dominion) any { return &d.Broker.ListenUnix },
				isPath: true, check: textCheck(socketPath),
				doc: "path of a [Unix socket](#a-unix-socket)",
			},
			{
				key: "cert_file", of: func(d *Dominion) any { return &d.Broker.CertFile }, isPath: true,
				usual: "the dominion's own",
				doc:   "certificate of `listen_tls` and `listen_wss`, PEM, read again when it changes",
			},
			{
				key: "key_file", of: func(d *Dominion) any { return &d.Broker.KeyFile }, isPath: true,
				doc: "its key",
			},
			{
				key: "client_ca_file", of: func(d *Dominion) any { return &d.Broker.ClientCAFile }, isPath: true,
				doc: "who signed the [certificates of clients](../how-to/client-certificates.md)",
			},
			{
				key: "require_certificate", of: func(d *Dominion) any { return &d.Broker.RequireCertificate },
				doc: "clients over TLS need such a certificate, or one of the dominion's; [also machines that wait for adoption](../how-to/client-certificates.md)",
			},
			{
				key: "allow_anonymous", of: func(d *Dominion) any { return &d.Broker.AllowAnonymous }, effect: byReload,
				doc: "clients without a user, also from other machines, as admins; while no user is configured a user name is ignored. Beside users it is a problem in `status`, because it makes them pointless",
			},
			{
				key: "external", of: func(d *Dominion) any { return &d.Broker.External }, read: readExternal,
				doc: "`mqtt[s]://user@host:port`, or a list of these, which are tried in turn: use that broker",
			},
			{
				key: "password_file", of: func(d *Dominion) any { return &d.Broker.PasswordFile }, isPath: true,
				doc: "for `external`: with the password of its user",
			},
			{
				key: "cafile", of: func(d *Dominion) any { return &d.Broker.CAFile }, isPath: true,
				doc: "for `external`: certificates that are trusted instead of the system's, PEM",
			},
			{
				key: "users", of: func(d *Dominion) any { return &d.Broker.Users }, effect: byReload,
				read:   func(t *table, _ string, d *Dominion) { t.users(&d.Broker.Users) },
				header: "[[broker.users]]",
				inner:  func() []row { return rowsOf(userSettings(), &User{}) },
				doc:    "[users](../how-to/users-and-tls.md)",
			},
			{
				key: "bridges", of: func(d *Dominion) any { return &d.Broker.Bridges },
				read:   func(t *table, _ string, d *Dominion) { t.bridges(&d.Broker) },
				header: "[[broker.bridges]]",
				inner:  func() []row { return rowsOf(bridgeSettings(), &Bridge{}) },
				doc:    "[a bridge](../how-to/bridge.md) to another broker",
			},
			{
				key: "rules", of: func(d *Dominion) any { return &d.Broker.Rules }, effect: byReload,
				read:   func(t *table, _ string, d *Dominion) { t.rules(&d.Broker.Rules) },
				header: "[[broker.rules]]",
				inner:  func() []row { return rowsOf(ruleSettings(), &ruleText{}) },
				doc:    "[rules of your own](../how-to/access-rules.md)",
			},
		},
		judge: func(in tables, d *Dominion) {
			t := in["broker"]
			d.Broker.ListenTLSIsDefault = !t.set("listen_tls")
			t.listeners(&d.Broker)
			t.certificate(&d.Broker)
			t.external(&d.Broker)
		},
	}
}

// socketPath checks the path of a Unix socket.
func socketPath(s string) problem {
	// The kernel's longest path of a socket, with the NUL at its end.
	const longestPath = 107
	if len(s) > longestPath {
		return problem{"is longer than the 107 bytes that the path of a socket may have", "choose a shorter one"}
	}
	return problem{}
}

// listeners refuses an address that another listener has.
func (t *table) listeners(b *Broker) {
	_, port, _ := net.SplitHostPort(b.Listen)
	if _, portTLS, _ := net.SplitHostPort(b.ListenTLS); b.ListenTLSIsDefault && port == portTLS {
		b.ListenTLS = "" // the default gives way
	}
	at := make(map[string]string)
	for _, l := range []struct{ key, address string }{
		{"listen", b.Listen}, {"listen_tls", b.ListenTLS}, {"listen_ws", b.ListenWS}, {"listen_wss", b.ListenWSS},
	} {
		if l.address == "" || !t.valid(l.key) {
			continue
		}
		if first := at[l.address]; first != "" && !strings.HasSuffix(l.address, ":0") {
			t.fault(l.key, "choose another port", "listens where %s does", first)
		}
		at[l.address] = l.key
	}
}

// certificate checks cert_file and key_file against the listeners that need
// them.
func (t *table) certificate(b *Broker) {
	if b.RequireCertificate && b.ClientCAFile == "" && t.valid("client_ca_file") {
		t.fault("require_certificate", "write client_ca_file: who signed the certificates", "needs client_ca_file")
	}
	if !t.valid("listen_tls") || !t.valid("listen_wss") || !t.valid("cert_file") || !t.valid("key_file") {
		return
	}
	tls := b.ListenTLS != "" || b.ListenWSS != ""
	switch {
	case b.CertFile != "" && b.KeyFile == "":
		t.fault("cert_file", "write key_file too", "needs key_file")
	case b.KeyFile != "" && b.CertFile == "":
		t.fault("key_file", "write cert_file too", "needs cert_file")
	case !tls && b.ClientCAFile != "":
		t.fault("client_ca_file", `write listen_tls = ":8883", or take it out`, "is of no use without listen_tls or listen_wss")
	case !tls && b.CertFile != "":
		t.fault("cert_file", `write listen_tls = ":8883", or take cert_file and key_file out`, "is of no use without listen_tls or listen_wss")
	}
}

// readExternal reads the addresses of an external broker.
func readExternal(t *table, key string, d *Dominion) {
	all, _ := t.addresses(key, &d.Broker.External)
	for _, external := range all {
		if _, wrong := checkURL(external); wrong != (problem{}) {
			wrong.report(t, key)
			return
		}
	}
}

// external checks what belongs to an external broker, or to the embedded one.
func (t *table) external(b *Broker) {
	if !t.valid("external") {
		return
	}
	if b.External == "" {
		t.embedded(b)
		return
	}
	if b.ListenTLSIsDefault {
		b.ListenTLS = ""
	}
	for _, external := range Addresses(b.External) {
		u, _ := checkURL(external)
		if b.PasswordFile != "" && u.User == nil {
			t.fault("password_file", `write the user into external: "mqtts://user@host:8883"`, "is of no use without a user")
		}
		if b.CAFile != "" && u.Scheme != "mqtts" {
			t.fault("cafile", `write external = "mqtts://…"`, "is of no use without TLS")
		}
	}
}

// embedded checks what must hold where no external broker is named.
func (t *table) embedded(b *Broker) {
	if b.PasswordFile != "" {
		t.fault("password_file", "take it out; users of the embedded broker are [[broker.users]]", "is of no use without external")
	}
	if b.CAFile != "" {
		t.fault("cafile", "take it out; the embedded broker's own are cert_file and key_file", "is of no use without external")
	}
	allValid := true
	for _, key := range []string{"listen", "listen_tls", "listen_ws", "listen_wss", "listen_unix"} {
		allValid = allValid && t.valid(key)
	}
	if allValid && b.Listen+b.ListenTLS+b.ListenWS+b.ListenWSS+b.ListenUnix == "" {
		t.fault("listen", "write an address to listen at", "nobody could connect: there is no listener and no external broker")
	}
}
