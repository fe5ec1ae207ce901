package agent

import (
	"maps"
	"net/url"
	"strings"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// environment returns the variables that describe the dominion and this domain to
// a service.
func (l *loop) environment(service string) map[string]string {
	e := map[string]string{
		"DOMINION_TOPIC_PREFIX": l.tree.Prefix(),
		"DOMAIN_NAME":           l.config.Name,
		"DOMAIN_IP":             l.inventory.Address(),
	}
	maps.Copy(e, l.traits.Environment())
	if l.store.command.Services[service].Exclusive {
		e["DOMINION_FENCE"] = l.fenceToken()
	}
	broker := l.store.memory.Hub
	if all := config.HubURLs(l.config.Hub); broker == "" && len(all) > 0 {
		broker = all[0]
	}
	u, err := url.Parse(broker)
	if err != nil || u.Scheme != "mqtt" && u.Scheme != "mqtts" || !topics.ValidAddress(u.Hostname()) {
		return e
	}
	u = &url.URL{Scheme: u.Scheme, Host: u.Host} // no user, and nothing that an announcement may have added
	port := u.Port()
	if port == "" && u.Scheme == "mqtts" {
		port = "8883"
	} else if port == "" {
		port = "1883"
	}
	e["DOMINION_URL"], e["DOMINION_IP"], e["DOMINION_PORT"] = u.String(), u.Hostname(), port
	if l.certifiesServices() {
		maps.Copy(e, l.credentials.Environment(service))
		l.credentials.Check(service)
	}
	return e
}

// certifiesServices reports whether the services of this domain have certificates: it reaches the
// dominion's own broker by TLS, and the hub issues them.
func (l *loop) certifiesServices() bool {
	return l.credentials != nil && l.store.memory.CertifiesServices && strings.HasPrefix(l.store.memory.Hub, "mqtts:")
}

// wantCredentials has certificates made for the services on the disk, before they are started for the
// first time. joined is set by a new connection to the hub.
func (l *loop) wantCredentials(joined bool) {
	if l.credentials == nil {
		return
	}
	var wanted []string
	if l.certifiesServices() {
		wanted = []string{}
		for _, row := range l.inventory.Catalog() {
			wanted = append(wanted, row.Service)
		}
		for _, service := range deployedServices(l.store.command.Services) {
			if !l.inventory.Has(service) {
				wanted = append(wanted, service)
			}
		}
	}
	l.credentials.Want(wanted, joined)
}
