package topics

// State is what an instance of a service, or a service as a whole, is doing.
// A closed list.
type State string

// The states of a service.
const (
	Pending  State = "pending"  // wanted, but nothing runs it yet: the reason says why
	Starting State = "starting" // the process runs, it is not ready yet
	Running  State = "running"  // ready
	Stopping State = "stopping" // told to stop, its process group is not empty yet
	Stopped  State = "stopped"  // not wanted, nothing left of it
	Backoff  State = "backoff"  // it ended or did not start; the next try is waited for
	Failed   State = "failed"   // it ended too often; tried again only now and then
	Finished State = "finished" // it ended as it should, and is not started again
)

// States lists the closed list in its order.
func States() []State {
	return []State{Pending, Starting, Running, Stopping, Stopped, Backoff, Failed, Finished}
}

// Alive tells whether processes of an instance in this state may exist.
func (s State) Alive() bool { return s == Starting || s == Running || s == Stopping }

// Listed tells whether an instance in this state counts as one: stopped and
// finished ones are not listed in a service's status.
func (s State) Listed() bool { return s != Stopped && s != Finished && s != "" }

// Health is what the health check of an instance says. A closed list. An
// instance without a check is healthy once it is ready.
type Health string

// The healths of an instance.
const (
	UnknownHealth Health = "unknown"
	Healthy       Health = "healthy"
	Unhealthy     Health = "unhealthy"
)

// EventType says what an event is about. A closed list.
type EventType string

// The types of events.
const (
	HubStarted       EventType = "hub_started"
	HubReady         EventType = "hub_ready"
	HubStopping      EventType = "hub_stopping"
	ConfigReloaded   EventType = "config_reloaded"
	ConfigRefused    EventType = "config_refused"
	EpochRaised      EventType = "epoch_raised"
	DomainJoined     EventType = "domain_joined"
	DomainOffline    EventType = "domain_offline"
	DomainLost       EventType = "domain_lost"
	DomainReturned   EventType = "domain_returned"
	DomainRefused    EventType = "domain_refused"
	DomainLonely     EventType = "domain_lonely"
	DomainForgotten  EventType = "domain_forgotten"
	DomainDraining   EventType = "domain_draining"
	DomainUndrained  EventType = "domain_undrained"
	DomainProblem    EventType = "domain_problem"
	ServiceWanted    EventType = "service_wanted"
	ServiceStarted   EventType = "service_started"
	ServiceReady     EventType = "service_ready"
	ServiceUnhealthy EventType = "service_unhealthy"
	ServiceCrashed   EventType = "service_crashed"
	ServiceFailed    EventType = "service_failed"
	ServiceFinished  EventType = "service_finished"
	ServiceStopped   EventType = "service_stopped"
	ServiceAdopted   EventType = "service_adopted"
	ServiceMoved     EventType = "service_moved"
	ServiceRemoved   EventType = "service_removed"
	CommandRefused   EventType = "command_refused"
	MessageRefused   EventType = "message_refused"
)

// EventTypes lists the closed list in its order.
func EventTypes() []EventType {
	return []EventType{
		HubStarted, HubReady, HubStopping, ConfigReloaded, ConfigRefused, EpochRaised,
		DomainJoined, DomainOffline, DomainLost, DomainReturned, DomainRefused, DomainLonely,
		DomainForgotten, DomainDraining, DomainUndrained, DomainProblem,
		ServiceWanted, ServiceStarted, ServiceReady, ServiceUnhealthy, ServiceCrashed, ServiceFailed,
		ServiceFinished, ServiceStopped, ServiceAdopted, ServiceMoved, ServiceRemoved,
		CommandRefused, MessageRefused,
	}
}
