package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

const labelHint = "use a-z, 0-9 and - only, 63 characters at most, not at the ends a -"

// dominionVariables begins the names of the variables that override a dominion.toml.
const dominionVariables = "DOMINION_CFG"

func loadDominion(file string, environ []string, m machine) (Dominion, error) {
	d := defaults()
	d.File, d.DataDir = file, m.dataDir("dominion", DefaultDataDir, file, environ)
	l, root := open(file, dominionVariables, environ)
	l.exists = m.exists
	if root != nil {
		root.dominion(&d)
	}
	if err := l.finish(); err != nil {
		return Dominion{}, err
	}
	return d, nil
}

// defaults is a dominion that says nothing.
func defaults() Dominion {
	return Dominion{
		Name:        DefaultName,
		DataDir:     DefaultDataDir,
		TopicPrefix: topics.DefaultPrefix,
		Broker: Broker{
			Listen:      DefaultListen,
			Persistence: Persistence{Sync: DefaultSync},
			Limits:      DefaultLimits(),
			UserLimits:  DefaultUserLimits(),
		},
		HTTP:          HTTP{Listen: DefaultHTTPListen, ListenTLS: DefaultHTTPListenTLS},
		Zeroconf:      Zeroconf{Enabled: true},
		HomeAssistant: HomeAssistant{Enabled: true, DiscoveryPrefix: DefaultDiscoveryPrefix},
		Devices:       Devices{Enabled: true},
		Timing:        DefaultTiming(),
	}
}

func (t *table) dominion(d *Dominion) {
	defer t.close()
	t.label("name", &d.Name, "dominion")
	t.dataDir(&d.DataDir)
	t.topic("topic_prefix", &d.TopicPrefix)
	if t.text("metrics", &d.Metrics) && d.Metrics != "" {
		checkListen(d.Metrics).report(t, "metrics")
	}
	t.sub("broker").broker(&d.Broker)
	t.sub("http").http(&d.HTTP, d.Broker, d.Metrics)
	t.sub("zeroconf").zeroconf(&d.Zeroconf)
	discovery := t.sub("homeassistant")
	discovery.homeAssistant(&d.HomeAssistant)
	t.apart(d.TopicPrefix, discovery, d.HomeAssistant.DiscoveryPrefix)
	t.sub("devices").devices(&d.Devices)
	timing := t.sub("timing")
	timing.timing(&d.Timing)
	d.Services = t.sub("services").services(d.TopicPrefix)
	timing.leases(*d)
}

// apart refuses prefixes of which one is below the other: devices may announce
// themselves below Home Assistant's, and would so be let in to ours.
func (t *table) apart(prefix string, discovery *table, discoveryPrefix string) {
	below := func(a, b string) bool { return strings.HasPrefix(a+"/", b+"/") }
	if !below(prefix, discoveryPrefix) && !below(discoveryPrefix, prefix) {
		return
	}
	const hint = `keep them apart, as "dominion" and "homeassistant"`
	if t.set("topic_prefix") {
		t.fault("topic_prefix", hint, "%s and homeassistant.discovery_prefix, %s, are one, or one is below the other", quote(prefix), quote(discoveryPrefix))
	} else {
		discovery.fault("discovery_prefix", hint, "%s and topic_prefix, %s, are one, or one is below the other", quote(discoveryPrefix), quote(prefix))
	}
}

// label reads a name that must be a DNS label.
func (t *table) label(key string, to *string, of string) {
	if t.text(key, to) && !topics.ValidName(*to) {
		t.fault(key, labelHint, "%s is not a valid %s name", quote(*to), of)
	}
}

func (t *table) dataDir(to *string) {
	if t.file("data_dir", to) && *to == "" {
		t.fault("data_dir", "write the path of a folder, or leave the key out", "is empty")
	}
}

func (t *table) topic(key string, to *string) {
	if t.text(key, to) {
		checkTopic(*to).report(t, key)
	}
}

func (t *table) broker(b *Broker) {
	defer t.close()
	t.listeners(b)
	t.flag("allow_anonymous", &b.AllowAnonymous)
	t.external(b)
	t.users(&b.Users)
	t.rules(&b.Rules)
	t.sub("persistence").persistence(&b.Persistence)
	t.sub("limits").limits(&b.Limits, &b.UserLimits)
	t.bridges(b)
}

func (t *table) listeners(b *Broker) {
	listeners := []struct {
		key string
		to  *string
	}{{"listen", &b.Listen}, {"listen_tls", &b.ListenTLS}, {"listen_ws", &b.ListenWS}, {"listen_wss", &b.ListenWSS}}
	at := make(map[string]string)
	for _, l := range listeners {
		if !t.text(l.key, l.to) || *l.to == "" {
			continue
		}
		checkListen(*l.to).report(t, l.key)
		if first := at[*l.to]; first != "" && !strings.HasSuffix(*l.to, ":0") {
			t.fault(l.key, "choose another port", "listens where %s does", first)
		}
		at[*l.to] = l.key
	}
	// The kernel's longest path of a socket, with the NUL at its end.
	const longestPath = 107
	if t.file("listen_unix", &b.ListenUnix) && len(b.ListenUnix) > longestPath {
		t.fault("listen_unix", "choose a shorter one", "is longer than the %d bytes that the path of a socket may have", longestPath)
	}
	t.certificate(b)
}

// certificate checks cert_file and key_file against the listeners that need
// them.
func (t *table) certificate(b *Broker) {
	t.file("cert_file", &b.CertFile)
	t.file("key_file", &b.KeyFile)
	t.file("client_ca_file", &b.ClientCAFile)
	t.flag("require_certificate", &b.RequireCertificate)
	if b.RequireCertificate && b.ClientCAFile == "" && t.fine("client_ca_file") {
		t.fault("require_certificate", "write client_ca_file: who signed the certificates", "needs client_ca_file")
	}
	if !t.fine("listen_tls") || !t.fine("listen_wss") || !t.fine("cert_file") || !t.fine("key_file") {
		return
	}
	tls := b.ListenTLS != "" || b.ListenWSS != ""
	switch {
	case tls && b.CertFile == "" && b.KeyFile == "":
		key := "listen_tls"
		if b.ListenTLS == "" {
			key = "listen_wss"
		}
		t.fault(key, "write them too", "needs cert_file and key_file")
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

func (t *table) external(b *Broker) {
	all, fine := t.addresses("external", &b.External)
	t.file("password_file", &b.PasswordFile)
	t.file("cafile", &b.CAFile)
	if !fine {
		return
	}
	if b.External == "" {
		t.embedded(b)
		return
	}
	for _, external := range all {
		u, wrong := checkURL(external)
		if wrong != (problem{}) {
			wrong.report(t, "external")
			return
		}
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
	if !t.fine("external") {
		return
	}
	if b.PasswordFile != "" {
		t.fault("password_file", "take it out; users of the embedded broker are [[broker.users]]", "is of no use without external")
	}
	if b.CAFile != "" {
		t.fault("cafile", "take it out; the embedded broker's own are cert_file and key_file", "is of no use without external")
	}
	fine := true
	for _, key := range []string{"listen", "listen_tls", "listen_ws", "listen_wss", "listen_unix"} {
		fine = fine && t.fine(key)
	}
	if fine && b.Listen+b.ListenTLS+b.ListenWS+b.ListenWSS+b.ListenUnix == "" {
		t.fault("listen", "write an address to listen at", "nobody could connect: there is no listener and no external broker")
	}
}

func (t *table) users(to *[]User) {
	lines := make(map[string]int)
	for _, in := range t.tables("users", "name") {
		u := in.user()
		if first, twice := lines[u.Name]; twice && u.Name != "" {
			in.fault("name", "take one of them out", "the user %s is there already, from line %d on", quote(u.Name), first)
		}
		lines[u.Name] = in.l.lines[in.path]
		*to = append(*to, u)
	}
}

func (t *table) user() User {
	defer t.close()
	var u User
	if t.text("name", &u.Name) {
		switch {
		case u.Name == "":
			t.fault("name", `write name = "…"`, "a user needs a name")
		case strings.ContainsAny(u.Name, "+#/") || strings.ContainsFunc(u.Name, unicode.IsControl) || strings.TrimSpace(u.Name) != u.Name:
			t.fault("name", "use no +, # and /, and no space at its ends", "%s is not a valid user name", quote(u.Name))
		}
	}
	if t.text("role", &u.Role) {
		switch u.Role {
		case RoleAdmin, RoleReader, RoleDevice, RoleDomain:
		case "":
			t.fault("role", "write one of admin, reader, device and domain", "a user needs a role")
		default:
			t.fault("role", "use admin, reader, device or domain", "%s is no role", quote(u.Role))
		}
	}
	t.file("password_file", &u.PasswordFile)
	// Nothing below repeats the value: it may be a password by mistake.
	if t.text("password_hash", &u.PasswordHash) && u.PasswordHash != "" {
		const bcryptLength = 60
		if _, err := bcrypt.Cost([]byte(u.PasswordHash)); err != nil || len(u.PasswordHash) != bcryptLength {
			t.fault("password_hash", "make one with: htpasswd -nB NAME, and write what follows NAME:", "is no bcrypt hash")
		}
	}
	t.flag("certificate", &u.Certificate)
	if t.fine("password_file") && t.fine("password_hash") {
		switch {
		case u.PasswordFile == "" && u.PasswordHash == "" && !u.Certificate:
			t.fault("", "write password_file or password_hash, or certificate = true", "a user needs a password or a certificate")
		case u.PasswordFile != "" && u.PasswordHash != "":
			t.fault("password_hash", "take one of them out", "there is a password_file too")
		}
	}
	return u
}

func (t *table) zeroconf(z *Zeroconf) {
	defer t.close()
	t.flag("enabled", &z.Enabled)
	if !t.list("interfaces", &z.Interfaces) {
		return
	}
	for _, name := range z.Interfaces {
		if name == "" || strings.ContainsAny(name, "/ \t\n") {
			t.fault("interfaces", `write names as "eth0"`, "%s is not a valid interface name", quote(name))
		}
	}
}

func (t *table) homeAssistant(h *HomeAssistant) {
	defer t.close()
	t.flag("enabled", &h.Enabled)
	t.topic("discovery_prefix", &h.DiscoveryPrefix)
}

func (t *table) devices(d *Devices) {
	defer t.close()
	t.flag("enabled", &d.Enabled)
}

func (t *table) timing(timing *topics.Timing) {
	defer t.close()
	keys := []struct {
		key string
		to  *topics.Seconds
	}{
		{"heartbeat", &timing.Heartbeat},
		{"lost_after", &timing.LostAfter},
		{"failover_after", &timing.FailoverAfter},
		{"isolation", &timing.Isolation},
		{"settle", &timing.Settle},
	}
	for _, k := range keys {
		usual := k.to.Duration()
		if t.duration(k.key, (*time.Duration)(k.to)) && *k.to == 0 && k.key != "settle" {
			t.fault(k.key, "the default is "+quote(usual.String()), "must be longer than nothing")
		}
	}
	beat := timing.Heartbeat.Duration()
	for _, k := range []struct {
		key   string
		limit time.Duration
	}{{"lost_after", timing.LostAfter.Duration()}, {"isolation", timing.Isolation.Duration()}} {
		switch {
		case k.limit > beat || !t.fine(k.key) || !t.fine("heartbeat"):
		case t.set(k.key):
			t.fault(k.key, "write three heartbeats or more", "%v must be longer than heartbeat, which is %v", k.limit, beat)
		default: // then heartbeat is what was changed
			t.fault("heartbeat", "raise "+k.key+" too", "%v must be shorter than %s, which is %v", beat, k.key, k.limit)
		}
	}
}

// leases checks that a lease survives a heartbeat that is lost: an exclusive
// service that its domain cannot hold is stopped.
func (t *table) leases(d Dominion) {
	const beats = 3
	beat, lease := d.Timing.Heartbeat.Duration(), d.Timing.Isolation.Duration()
	i := slices.IndexFunc(d.Services, func(s services.Definition) bool { return s.Exclusive })
	if i < 0 || lease >= beats*beat || lease <= beat || !t.fine("isolation") || !t.fine("heartbeat") {
		return
	}
	key := "isolation"
	if !t.set(key) {
		key = "heartbeat"
	}
	t.fault(key, fmt.Sprintf("isolation must be %d heartbeats or more", beats),
		"%s is exclusive and runs no longer than isolation, %v, without the hub: too short for a heartbeat of %v", d.Services[i].Name, lease, beat)
}

// services reads every [services.NAME] and judges them together.
// services reads [services]. Their number and names are judged before anything
// else of them is read.
func (t *table) services(prefix string) []services.Definition {
	if len(t.values) > services.MaxServices {
		t.fault("", "take some out", "%d services are more than %d", len(t.values), services.MaxServices)
		t.values = nil
		return nil
	}
	names := slices.Collect(maps.Keys(t.values))
	// SERVICES_WEB_ENVIRONMENT_PORT is the port of web-environment, where that
	// is defined, before it is a variable PORT of web: longer names first.
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	in := make(map[string]*table, len(names))
	var defs []services.Definition
	for _, name := range names {
		in[name] = t.sub(name)
		defs = append(defs, in[name].service(name))
	}
	slices.SortFunc(defs, func(a, b services.Definition) int { return cmp.Compare(a.Name, b.Name) })
	faults := slices.DeleteFunc(services.Validate(defs), func(f services.Fault) bool {
		at, key := in[f.Service].holder(f.Key)
		return !at.fine(key) // it was not read: what is judged is a default
	})
	for _, f := range faults {
		at, key := in[f.Service].holder(f.Key)
		at.fault(key, f.Hint, "%s", f.Message)
	}
	for _, d := range defs {
		if d.Scale == nil {
			continue
		}
		if a, ours := topics.NewTree(prefix).Parse(d.Scale.Topic()); ours && a.Kind.Imperative() {
			at, key := in[d.Name].holder("scale.metric")
			at.fault(key, "follow a topic that says something", "%s takes orders, it holds no figure", d.Scale.Topic())
		}
	}
	return defs
}
