package config

import (
	"net"
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"github.com/jmbarzee/dominion/topics"
)

// The folders of a domain where nothing else is configured.
const (
	DefaultServicesDir   = "/usr/local/dominion/services"
	DefaultDomainDataDir = "/var/lib/dominion-domain"
)

// How far a domain trusts its dominion. Each includes those before it.
const (
	AcceptLocal       = "local"       // it runs what is on this disk, with the variables that service.toml declares
	AcceptEnvironment = "environment" // it may set any variable of a service
	AcceptDeploy      = "deploy"      // it may also give secrets to services, and deploy programs
	AcceptUpgrade     = "upgrade"     // as AcceptDeploy; for the agent's own program, which no hub replaces yet
)

func loadDomain(file string, environ []string, h host) (Domain, error) {
	var d Domain
	setDefaults(domainSections(), &d)
	d.File, d.Name = file, h.name
	d.DataDir = h.dataDir("dominion-domain", DefaultDomainDataDir, file, environ)
	l, root := open(file, domainVariables, environ)
	l.exists, l.isUser = h.exists, h.isUser
	if root != nil {
		root.domain(&d)
	}
	if err := l.finish(); err != nil {
		return Domain{}, err
	}
	return d, nil
}

func (t *table) domain(d *Domain) { readSections(t, domainSections(), d) }

// ChangedByRestart returns the keys of a domain.toml that was read anew that a reload
// does not take over.
func (d Domain) ChangedByRestart(reread Domain) []string {
	return changedByRestart(domainSections(), &d, &reread)
}

// TakeOver sets what a running agent takes over of a domain.toml that was read anew.
func (d *Domain) TakeOver(reread Domain) { takeOver(domainSections(), d, &reread) }

// domainSections returns what a domain.toml may hold, in the order of the document.
func domainSections() []section[*Domain] {
	return []section[*Domain]{
		{
			settings: domainSettings(),
			judge:    func(in tables, d *Domain) { in[""].identity(d) },
		},
		{
			path: "zeroconf", asWhole: true,
			settings: []setting[*Domain]{
				{
					key: "enabled", of: func(d *Domain) any { return &d.Zeroconf.Enabled }, def: true,
					doc: "announce this domain while it has no hub, and look for one; `false`: neither",
				},
				{
					key: "interfaces", of: func(d *Domain) any { return &d.Zeroconf.Interfaces },
					check: eachText(interfaceName),
					doc:   "those used, by name; else those that others can reach",
				},
			},
		},
	}
}

// domainSettings returns the keys of domain.toml outside its tables, in the order of the
// document.
func domainSettings() []setting[*Domain] {
	return []setting[*Domain]{
		{
			key: "name", of: func(d *Domain) any { return &d.Name },
			check: textCheck(nameOf("domain")),
			usual: "the host's name",
			doc:   "of the domain",
		},
		{
			key: "traits", of: func(d *Domain) any { return &d.Traits }, effect: byReload,
			check: eachText(traitName),
			doc:   "what it offers",
		},
		{
			key: "services_dir", of: func(d *Domain) any { return &d.ServicesDir }, def: DefaultServicesDir,
			isPath: true, check: textCheck(notEmpty),
			doc: "folder of the services' code, one folder each",
		},
		{
			key: "data_dir", of: func(d *Domain) any { return &d.DataDir }, def: DefaultDomainDataDir,
			isPath: true, check: textCheck(notEmpty),
			doc: "id, last start command, ports, logs, data of the services",
		},
		{
			key: "address", of: func(d *Domain) any { return &d.Address }, effect: byReload,
			check: optionalText(reachableAddress),
			usual: "of the default route",
			doc:   "where its services are reached",
		},
		{
			key: "hub", of: func(d *Domain) any { return &d.Hub }, read: readHub,
			doc: "`host` (`mqtts` at port 8883), `host:port` (without TLS) or `mqtts://host:port`, or a list of these, which are tried in turn; else zeroconf",
		},
		{
			key: "adoption", of: func(d *Domain) any { return &d.Adoption }, def: AdoptionAsk,
			check: textCheck(adoption),
			doc:   "how this domain lets itself [be adopted](../how-to/adopt.md): by its code or a token. `\"open\"`: also by a dominion that is open, if it is the only one in reach",
		},
		{
			key: "token_file", of: func(d *Domain) any { return &d.TokenFile }, isPath: true,
			doc: "with a [token](../how-to/adopt.md#with-a-token) by which it is adopted",
		},
		{
			key: "user", of: func(d *Domain) any { return &d.User },
			check: textCheck(printable),
			doc:   "as which it connects",
		},
		{
			key: "password_file", of: func(d *Domain) any { return &d.PasswordFile }, isPath: true,
			doc: "with the password of `user`",
		},
		{
			key: "cafile", of: func(d *Domain) any { return &d.CAFile }, isPath: true,
			doc: "certificates that are trusted instead of the system's, PEM: of who signed the broker's",
		},
		{
			key: "cert_file", of: func(d *Domain) any { return &d.CertFile }, isPath: true,
			doc: "[certificate of this domain](../how-to/client-certificates.md), PEM",
		},
		{
			key: "key_file", of: func(d *Domain) any { return &d.KeyFile }, isPath: true,
			doc: "its key",
		},
		{
			key: "dominion", of: func(d *Domain) any { return &d.Dominion },
			check: optionalText(dominionName),
			doc:   "join the dominion of this name or id alone. Once the domain has joined one, its id counts, and another dominion of the same name is joined only where its id is written here ([whom a domain joins](../explanation/joining.md))",
		},
		{
			key: "topic_prefix", of: func(d *Domain) any { return &d.TopicPrefix }, def: topics.DefaultPrefix,
			check: textCheck(checkTopic),
			doc:   "base of all topics: that of the dominion",
		},
		{
			key: "stop_services_on_exit", of: func(d *Domain) any { return &d.StopServicesOnExit }, effect: byReload,
			doc: "else services live on when the agent stops",
		},
		{
			key: "accept", of: func(d *Domain) any { return &d.Accept }, def: AcceptDeploy, read: readAccept,
			also: func(d *Domain) any { return d.AcceptIsDefault },
			doc:  "how far this domain [trusts its dominion](../security.md#what-the-dominion-may-do-on-a-machine). `\"local\"`: it starts what is on this disk, and sets only the variables that the service's own `service.toml` declares (`variables`). `\"environment\"`: also any other variable, which allows to run code as the service's user. `\"deploy\"`: also [secrets](../how-to/secrets.md), and programs that it [deploys](../how-to/deploy.md). `\"upgrade\"`: the same today. A domain that joined its dominion before it had a key, and does not have this key in its file, accepts `\"environment\"`",
		},
		{
			key: "fetch_rate", of: func(d *Domain) any { return &d.FetchRate },
			check: func(t *table, key string, v any) {
				if rate := *v.(*int64); rate != 0 && rate < 1000 {
					t.fault(key, `write a size, as "500kB"`, "is less than 1 kB a second")
				}
			},
			doc: "how much of a [deployed service](../how-to/deploy.md) is pulled in a second at most, as `\"500kB\"`; without it as fast as it comes",
		},
		{
			key: "run_as", of: func(d *Domain) any { return &d.RunAs }, check: serviceUser,
			doc: "user of the services, by name or number, never root; without it `dominion-services` where the agent is root, else the agent's user ([the user of services](../how-to/service-user.md))",
		},
		{
			key: "allow_root", of: func(d *Domain) any { return &d.AllowRoot },
			check: eachText(serviceName),
			doc:   "names of services that run as root here, where the agent is root",
		},
		{
			key: "traits_from", of: func(d *Domain) any { return &d.TraitsFrom },
			read:   func(t *table, _ string, d *Domain) { t.traitsFrom(&d.TraitsFrom) },
			header: "[traits_from]",
			inner: func() []row {
				usual := defaultTraitSource("")
				return rowsOf(traitSettings(), &usual)
			},
			doc: "[traits that come and go](../how-to/traits.md), by name: a path, or one of `{ path }`, `{ command }` and `{ mqtt }`",
		},
	}
}

func traitName(s string) problem {
	if topics.ValidName(s) {
		return problem{}
	}
	return problem{quote(s) + " is not a valid trait", labelHint}
}

func dominionName(s string) problem {
	if topics.ValidName(s) {
		return problem{}
	}
	return problem{quote(s) + " is not a valid dominion name", labelHint}
}

func serviceName(s string) problem {
	if topics.ValidName(s) {
		return problem{}
	}
	return problem{quote(s) + " is not a valid service name", labelHint}
}

func reachableAddress(s string) problem {
	if a, err := netip.ParseAddr(s); err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return problem{quote(s) + " is no IP address that others can reach", `write it as "192.168.1.20"`}
	}
	return problem{}
}

func printable(user string) problem {
	if strings.ContainsFunc(user, unicode.IsControl) {
		return problem{quote(user) + " holds a control character", "take it out"}
	}
	return problem{}
}

// readAccept reads how far the domain trusts its dominion.
func readAccept(t *table, key string, d *Domain) {
	if !t.text(key, &d.Accept) {
		return
	}
	trust(d.Accept).report(t, key)
	d.AcceptIsDefault = !t.set(key)
}

// trust checks how far the domain trusts its dominion.
func trust(s string) problem {
	switch s {
	case AcceptLocal, AcceptEnvironment, AcceptDeploy, AcceptUpgrade:
		return problem{}
	}
	return problem{quote(s) + " does not say how far the dominion is trusted", `use "local", "environment", "deploy" or "upgrade"`}
}

// userPattern is what useradd takes, or a number.
var userPattern = regexp.MustCompile(`^([a-z_][a-z0-9_.-]{0,30}\$?|[0-9]{1,10})$`)

// serviceUser checks the user of services.
func serviceUser(t *table, key string, v any) {
	const hint = `write a user of this machine, as "pi"`
	user := *v.(*string)
	if user == "" {
		return
	}
	if !userPattern.MatchString(user) {
		t.fault(key, hint, "%s is not a valid user name", quote(user))
	} else if t.l.isUser != nil && !t.l.isUser(user) {
		t.fault(key, hint, "there is no user %s here", quote(user))
	}
}

// readHub reads the addresses of the hub.
func readHub(t *table, key string, d *Domain) {
	all, _ := t.addresses(key, &d.Hub)
	for _, hub := range all {
		isURL := strings.Contains(hub, "://")
		u, wrong := checkURL(hub)
		switch {
		case !isURL && strings.Contains(hub, "@"), wrong == problem{} && u.User != nil:
			// and perhaps a password: it is not repeated
			t.fault(key, `take the user out and write user = "…"`, "holds a user")
		case isURL:
			wrong.report(t, key)
		case validHost(hub) && strings.Trim(hub, "0123456789") != "": // mqtts at port 8883
		default:
			checkServer(hub).report(t, key)
		}
	}
}

// HubURLs returns the URLs of the hub that a configuration names, in order: host is
// mqtts at port 8883, host:port is without TLS.
func HubURLs(hub string) []string {
	all := Addresses(hub)
	for i, a := range all {
		switch {
		case strings.Contains(a, "://"):
		case validHost(a):
			all[i] = "mqtts://" + net.JoinHostPort(strings.TrimSuffix(a, "."), "8883")
		default:
			all[i] = "mqtt://" + a
		}
	}
	return all
}

// identity checks what the agent shows to the hub, and the number of its traits.
func (t *table) identity(d *Domain) {
	encrypted := true // also without hub: zeroconf may find one with TLS
	for _, hub := range HubURLs(d.Hub) {
		encrypted = encrypted && strings.HasPrefix(hub, "mqtts://")
	}
	switch {
	case d.CertFile != "" && d.KeyFile == "":
		t.fault("cert_file", "write key_file too", "needs key_file")
	case d.KeyFile != "" && d.CertFile == "":
		t.fault("key_file", "write cert_file too", "needs cert_file")
	case d.CertFile != "" && !encrypted && t.valid("hub"):
		t.fault("cert_file", `write hub = "mqtts://host:8883"`, "is of no use without TLS")
	}
	if d.PasswordFile != "" && d.User == "" && t.valid("user") && !strings.Contains(d.Hub, "@") {
		t.fault("password_file", `write user = "…" too`, "is of no use without a user")
	}
	if d.CAFile != "" && !encrypted && t.valid("hub") {
		t.fault("cafile", `write hub = "mqtts://host:8883"`, "is of no use without TLS")
	}
	if n := len(d.Traits) + len(d.TraitsFrom); n > topics.MaxTraits {
		t.fault("traits", "take some out", "%d traits, with those of traits_from, are more than %d", n, topics.MaxTraits)
	}
}
