package topics

// State is what an instance of a service, or a service as a whole, is doing.
// A closed list.
type State string

// The states of a service.
const (
	Pending  State = "pending"  // wanted, but nothing runs it yet: the reason says why
	Fetching State = "fetching" // its bundle is pulled or unpacked; what ran before it runs on
	Starting State = "starting" // the process runs, it is not ready yet
	Running  State = "running"  // ready
	Stopping State = "stopping" // told to stop, its process group is not empty yet
	Stopped  State = "stopped"  // not wanted, nothing left of it
	Backoff  State = "backoff"  // it ended or did not start; the next try is waited for
	Failed   State = "failed"   // it ended too often, or cannot start on this domain; tried again now and then
	Finished State = "finished" // it ended as it should, and is not started again
)

// States lists the closed list in its order.
func States() []State {
	return []State{Pending, Fetching, Starting, Running, Stopping, Stopped, Backoff, Failed, Finished}
}

// Alive reports whether processes of an instance in this state may exist.
func (s State) Alive() bool { return s == Starting || s == Running || s == Stopping }

// Listed reports whether an instance in this state counts as one: stopped and
// finished ones are not listed in a service's status.
func (s State) Listed() bool { return s != Stopped && s != Finished && s != "" }

// Health is the result of the health check of an instance. A closed list. An
// instance without a check is healthy once it is ready.
type Health string

// The healths of an instance.
const (
	UnknownHealth Health = "unknown"   // not asked yet
	Healthy       Health = "healthy"   // its check says so
	Unhealthy     Health = "unhealthy" // its check failed as often as it may
)

// EventType is what an event is about. A closed list.
type EventType string

// The types of events.
const (
	HubStarted         EventType = "hub_started"         // the hub runs; it waits for the domains it knows
	HubReady           EventType = "hub_ready"           // the known domains are back or were waited for: it plans
	HubStopping        EventType = "hub_stopping"        // the hub was told to stop
	HubProblem         EventType = "hub_problem"         // something of the hub needs a human, or no longer does
	CertificateRenewed EventType = "certificate_renewed" // the hub's certificate was made anew
	KeyRotated         EventType = "key_rotated"         // another authority and another key of the hub are used from now on
	ConfigReloaded     EventType = "config_reloaded"     // the configuration was read again and is in force
	ConfigRefused      EventType = "config_refused"      // the configuration has faults; the old one stays in force
	CertificateExpires EventType = "certificate_expires" // the certificate of the broker or of HTTPS ends soon, or has ended: it needs a new one
	EpochRaised        EventType = "epoch_raised"        // a higher epoch was seen, so the hub raised its own above it
	DomainJoined       EventType = "domain_joined"       // a domain joined
	DomainOffline      EventType = "domain_offline"      // a domain said offline, or its will did; its services stay
	DomainLost         EventType = "domain_lost"         // no heartbeat for lost_after: its services may move
	DomainReturned     EventType = "domain_returned"     // a domain that was offline or lost is back
	DomainRefused      EventType = "domain_refused"      // another machine has its name: the message says which
	DomainLonely       EventType = "domain_lonely"       // a domain without a dominion was seen on the network
	DomainWaiting      EventType = "domain_waiting"      // a machine waits for adoption
	DomainAdopted      EventType = "domain_adopted"      // hub and domain have each other's key: the message says by what
	AdoptionRefused    EventType = "adoption_refused"    // a machine was not adopted: the message says why
	DomainCopied       EventType = "domain_copied"       // a machine with the key of a domain and an older word was refused
	DomainRevoked      EventType = "domain_revoked"      // the key of a domain is not accepted any more
	WindowOpened       EventType = "window_opened"       // domains are adopted without a code for a while
	WindowClosed       EventType = "window_closed"       // they are not any more
	DomainRenamed      EventType = "domain_renamed"      // a machine has another name than before; what it runs follows
	DomainResynced     EventType = "domain_resynced"     // an admin had hub and domain agree anew on epoch, generation and session
	DomainForgotten    EventType = "domain_forgotten"    // all that was known of a domain is cleared
	DomainDraining     EventType = "domain_draining"     // a domain is given nothing any more
	DomainUndrained    EventType = "domain_undrained"    // a domain is given services again
	DomainProblem      EventType = "domain_problem"      // something on a domain needs a human
	ServiceWanted      EventType = "service_wanted"      // a service was switched on or off, or scaled
	ServiceStarted     EventType = "service_started"     // its process was started
	ServiceReady       EventType = "service_ready"       // it is ready
	ServiceUnhealthy   EventType = "service_unhealthy"   // its health check fails
	ServiceCrashed     EventType = "service_crashed"     // it ended, and is started again after a delay
	ServiceFailed      EventType = "service_failed"      // it ended too often, or cannot start on this domain; it is tried again
	ServiceFinished    EventType = "service_finished"    // it ended as it should
	ServiceStopped     EventType = "service_stopped"     // it was told to stop, and nothing is left of it: the message says why
	ServiceAdopted     EventType = "service_adopted"     // an agent took over what the one before it had started
	ServiceMoved       EventType = "service_moved"       // it runs on another domain now
	ServiceUpdating    EventType = "service_updating"    // a changed definition or a new version begins to roll out
	ServiceUpdated     EventType = "service_updated"     // all its instances run what was rolled out
	ServiceReverted    EventType = "service_reverted"    // what was rolled out did not get healthy: back to what ran before
	ServiceScaled      EventType = "service_scaled"      // the number of its instances followed a figure
	ServiceFenced      EventType = "service_fenced"      // an exclusive one was ended because its lease ended
	DomainFlapping     EventType = "domain_flapping"     // a domain was lost too often: nothing is moved back to it for a while
	ServiceDefined     EventType = "service_defined"     // it was defined at run time, or its definition changed
	ServiceRemoved     EventType = "service_removed"     // it is gone from the configuration
	CommandRefused     EventType = "command_refused"     // a command was not obeyed: the message says why
	MessageRefused     EventType = "message_refused"     // a message could not be read, or may not be sent so
)

// EventTypes lists the closed list in its order.
func EventTypes() []EventType {
	return []EventType{
		HubStarted, HubReady, HubStopping, HubProblem, ConfigReloaded, ConfigRefused, CertificateExpires, CertificateRenewed, KeyRotated, EpochRaised,
		DomainJoined, DomainOffline, DomainLost, DomainReturned, DomainRefused, DomainLonely,
		DomainWaiting, DomainAdopted, AdoptionRefused, DomainCopied, DomainRevoked, WindowOpened, WindowClosed,
		DomainRenamed, DomainResynced, DomainForgotten, DomainDraining, DomainUndrained, DomainProblem,
		ServiceWanted, ServiceStarted, ServiceReady, ServiceUnhealthy, ServiceCrashed, ServiceFailed,
		ServiceFinished, ServiceStopped, ServiceAdopted, ServiceMoved, ServiceUpdating, ServiceUpdated,
		ServiceReverted, ServiceScaled, ServiceFenced, ServiceDefined, ServiceRemoved, DomainFlapping,
		CommandRefused, MessageRefused,
	}
}

// AdoptionRequired is how the refusal of a join begins where the machine must be adopted by
// its code, token or window first.
const AdoptionRequired = "it must be adopted by its code"

// NotWanted is the reason of service_stopped as an agent has it: its start command
// no longer holds the service. The hub passes the event on with its own reason in
// its place.
const NotWanted = "it is no longer wanted"
