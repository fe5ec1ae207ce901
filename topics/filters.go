package topics

// HubFilters are the subscriptions of a hub. The retained topics among them are
// replayed: availability, heartbeat, metrics and status of domains, and the
// status of services, to find and clear what a former configuration left. It
// subscribes to its own to publish them again when another client overwrites them.
func (t Tree) HubFilters() []string {
	return []string{
		t.Hub(HubAvailability),
		t.Hub(HubStatus),
		t.Hub(HubKeys),
		t.Hub(HubCertificate),
		t.Hub(HubAdoption),
		t.Filter(DomainAvailability),
		t.Filter(DomainHeartbeat),
		t.Filter(DomainMetrics),
		t.Filter(DomainStatus),
		t.Filter(DomainEvent),
		t.Filter(DomainResponse),
		t.Filter(DomainDrainSet),
		t.Filter(ServiceStatus),
		t.Filter(ServiceEndpoints),
		t.Filter(ServiceEndpoint),
		t.Filter(ServiceSet),
		t.Filter(Request),
	}
}

// AgentFilters are the subscriptions of the agent of one domain.
func (t Tree) AgentFilters(domain string) []string {
	return []string{
		t.Hub(HubAvailability),
		t.Hub(HubStatus),
		t.Hub(HubKeys),
		t.Hub(HubCertificate),
		t.Domain(DomainAvailability, domain),
		t.Domain(DomainServicesSet, domain),
		t.Domain(DomainLease, domain),
		t.Domain(DomainCommand, domain),
		t.Domain(DomainDrainSet, domain),
	}
}

// DomainTopics are the retained topics of one domain: what is cleared when it
// is forgotten.
func (t Tree) DomainTopics(domain string) []string {
	return t.retained("<domain>", Address{Domain: domain})
}

// ServiceTopics are the retained topics of one service: what is cleared when
// it is gone from the configuration.
func (t Tree) ServiceTopics(service string) []string {
	return t.retained("<service>", Address{Service: service})
}

func (t Tree) retained(level string, a Address) []string {
	var all []string
	for _, p := range patterns {
		if e := byKind[p.kind]; e.Retain && p.levels[1] == level {
			a.Kind = p.kind
			all = append(all, t.Topic(a))
		}
	}
	return all
}
