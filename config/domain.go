package config

import (
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"github.com/jmbarzee/dominion/topics"
)

// How far a domain trusts its dominion.
const (
	AcceptEnvironment = "environment" // it may set any variable of a service
	AcceptLocal       = "local"       // only those that the service's own disk declares
)

func loadDomain(file string, environ []string, m machine) (Domain, error) {
	d := Domain{
		File:        file,
		Name:        m.name,
		ServicesDir: DefaultServicesDir,
		DataDir:     m.dataDir("dominion-domain", DefaultDomainDataDir, file, environ),
		TopicPrefix: topics.DefaultPrefix,
		Accept:      AcceptEnvironment,
		Zeroconf:    Zeroconf{Enabled: true},
	}
	l, root := open(file, domainVariables, environ)
	l.exists, l.isUser = m.exists, m.isUser
	if root != nil {
		root.domain(&d)
	}
	if err := l.finish(); err != nil {
		return Domain{}, err
	}
	return d, nil
}

// userPattern is what useradd takes, or a number.
var userPattern = regexp.MustCompile(`^([a-z_][a-z0-9_.-]{0,30}\$?|[0-9]{1,10})$`)

func (t *table) domain(d *Domain) {
	defer t.close()
	t.label("name", &d.Name, "domain")
	t.list("traits", &d.Traits)
	for _, trait := range d.Traits {
		if !topics.ValidName(trait) {
			t.fault("traits", labelHint, "%s is not a valid trait", quote(trait))
		}
	}
	if t.file("services_dir", &d.ServicesDir) && d.ServicesDir == "" {
		t.fault("services_dir", "write the path of a folder, or leave the key out", "is empty")
	}
	t.dataDir(&d.DataDir)
	if t.text("address", &d.Address) && d.Address != "" {
		if a, err := netip.ParseAddr(d.Address); err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			t.fault("address", `write it as "192.168.1.20"`, "%s is no IP address that others can reach", quote(d.Address))
		}
	}
	t.hub(d)
	if t.text("dominion", &d.Dominion) && d.Dominion != "" && !topics.ValidName(d.Dominion) {
		t.fault("dominion", labelHint, "%s is not a valid dominion name", quote(d.Dominion))
	}
	t.topic("topic_prefix", &d.TopicPrefix)
	t.flag("stop_services_on_exit", &d.StopServicesOnExit)
	const acceptHint = `use "environment", or "local"`
	switch {
	case !t.text("accept", &d.Accept), d.Accept == AcceptEnvironment, d.Accept == AcceptLocal:
	case d.Accept == "deploy":
		t.fault("accept", acceptHint, "%s is not supported by this version", quote(d.Accept))
	default:
		t.fault("accept", acceptHint, "%s does not say how far the dominion is trusted", quote(d.Accept))
	}
	const userHint = `write a user of this machine, as "pi"`
	switch {
	case !t.text("run_as", &d.RunAs), d.RunAs == "":
	case !userPattern.MatchString(d.RunAs):
		t.fault("run_as", userHint, "%s is not a valid user name", quote(d.RunAs))
	case t.l.isUser != nil && !t.l.isUser(d.RunAs):
		t.fault("run_as", userHint, "there is no user %s here", quote(d.RunAs))
	}
	t.list("allow_root", &d.AllowRoot)
	for _, service := range d.AllowRoot {
		if !topics.ValidName(service) {
			t.fault("allow_root", labelHint, "%s is not a valid service name", quote(service))
		}
	}
	t.sub("zeroconf").zeroconf(&d.Zeroconf)
	t.traitsFrom(&d.TraitsFrom)
	if n := len(d.Traits) + len(d.TraitsFrom); n > topics.MaxTraits {
		t.fault("traits", "take some out", "%d traits, with those of traits_from, are more than %d", n, topics.MaxTraits)
	}
}

// hub reads where the hub is and who the agent is to it.
func (t *table) hub(d *Domain) {
	encrypted := true // zeroconf may find a hub with TLS
	all, _ := t.addresses("hub", &d.Hub)
	for _, hub := range all {
		isURL := strings.Contains(hub, "://")
		u, wrong := checkURL(hub)
		switch {
		case !isURL && strings.Contains(hub, "@"), wrong == problem{} && u.User != nil:
			// and perhaps a password: it is not repeated
			t.fault("hub", `take the user out and write user = "…"`, "holds a user")
		case isURL:
			wrong.report(t, "hub")
			encrypted = encrypted && u != nil && u.Scheme == "mqtts"
		default:
			checkServer(hub).report(t, "hub")
			encrypted = false
		}
	}
	if t.text("user", &d.User) && strings.ContainsFunc(d.User, unicode.IsControl) {
		t.fault("user", "take it out", "%s holds a control character", quote(d.User))
	}
	t.file("password_file", &d.PasswordFile)
	t.file("cafile", &d.CAFile)
	t.file("cert_file", &d.CertFile)
	t.file("key_file", &d.KeyFile)
	switch {
	case d.CertFile != "" && d.KeyFile == "":
		t.fault("cert_file", "write key_file too", "needs key_file")
	case d.KeyFile != "" && d.CertFile == "":
		t.fault("key_file", "write cert_file too", "needs cert_file")
	case d.CertFile != "" && !encrypted && t.fine("hub"):
		t.fault("cert_file", `write hub = "mqtts://host:8883"`, "is of no use without TLS")
	}
	if d.PasswordFile != "" && d.User == "" && t.fine("user") && !strings.Contains(d.Hub, "@") {
		t.fault("password_file", `write user = "…" too`, "is of no use without a user")
	}
	if d.CAFile != "" && !encrypted && t.fine("hub") {
		t.fault("cafile", `write hub = "mqtts://host:8883"`, "is of no use without TLS")
	}
}
