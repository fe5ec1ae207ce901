// Package agent runs one domain of a dominion: it joins the hub, takes its
// start commands, keeps the services of the last one running with or without
// a hub, and reports to the hub what runs.
//
// ONE loop (loop.go) drives its parts, each of which owns its state and knows no
// other: the connection to the hub (link), the orders of the hub (orders), whether
// the domain is lonely (isolation), what it reports (report), the machine (facts,
// traits), the logs and the processes (supervisor). Beside the loop there are the
// goroutines of the link, of the heartbeats and, while the domain is lonely, of its
// announcement by zeroconf. It refuses to decide which services run where: that is
// the hub's; the two never import each other and meet in package topics. Only
// cmd/domain imports it.
//
// # Files
//
//	accept.go               how far the domain trusts its dominion
//	agent.go                what an agent needs and passes its loop; bounds of its inbox; giving up a loop that does not end
//	applying.go             asking for adoption, and storing what came of it; when the code is shown
//	certificate.go          the certificates of domain and hub: verifying, renewing
//	commands.go             commands of the hub (restart, logs, resync, drain), and how many log lines an answer has
//	control.go              the socket for domain code and domain join: requests, waiting, exit codes
//	deployed.go             bundles beside the loop: pulling, building, removing; whom the registry is
//	environment.go          variables about dominion and domain for services
//	keylist.go              key lists of the dominion: storing the newest, showing it to a hub that has an older one
//	lease.go                what the loop does when a lease is renewed or does not count
//	login_screen.go         the adoption code on the login screen and in the log
//	lonely_announcement.go  what a lonely domain announces by zeroconf
//	loop.go                 the loop: order of its steps, when it wakes, how it ends
//	machine.go              the real machine behind the loop's facts
//	membership.go           which dominion the domain belongs to: key, certificate, what it has pinned
//	messages.go             messages of the hub: status, start command, timing, drain, topics of traits and health
//	rejoin.go               the signed status of the hub, and joining another run of it over the open connection
//	reload.go               what a reload changes
//	reset.go                domain reset
//	run.go                  start and end of the parts
//	signed.go               signed orders: what is compared, verified and refused
//	signing.go              what this domain signs, and the answer to its join
//	status.go               the status of the domain; the shortest heartbeat
//	store.go                the agent's own files; how much a day they may take
//	tokens.go               tokens by which a domain joins: sources, order, how often files are read
package agent

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/agent/report"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/internal/mailbox"
	"github.com/jmbarzee/dominion/topics"
)

// Options are the options of an agent. Those below Log exist for tests: nil is
// the real implementation.
type Options struct {
	Config  config.Domain
	Version string
	Log     *slog.Logger
	// IssueFile is where the code is shown on the login screen; "": nowhere.
	IssueFile string
	// Unit reports that the agent is a unit of systemd, for what people are told to type.
	Unit bool
	// TokenFiles hold tokens beside token_file. Those of OnceFiles are removed after use.
	TokenFiles, OnceFiles []string
	// Keyless makes an agent of before there were keys: it is not adopted, and joins
	// whatever hub it finds.
	Keyless bool

	// Dial opens a connection to host:port of a broker.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Connect speaks MQTT over it, as client.Connect does.
	Connect func(context.Context, client.Options) (Conn, error)
	// Random returns a duration from 0 up to but below a limit: machines that
	// lost the hub together do not come back in step.
	Random func(limit time.Duration) time.Duration
	// MinPollInterval is the least time between two polls of anything that sends
	// no events: the catalog, addresses, logs, metrics. 0: each has its own
	// interval. Only tests set it.
	MinPollInterval time.Duration
	// Browse and Announce are those of package zeroconf.
	Browse   func(ctx context.Context, names []string, serviceType string, window time.Duration) ([]zeroconf.Found, error)
	Announce func(ctx context.Context, names []string, log *slog.Logger, services ...zeroconf.Service) error
	Runner   supervisor.Runner
	Guards   supervisor.Guards
	Facts    Facts
}

// Conn is a connection to a broker.
type Conn = link.Conn

// Facts describes the machine to the agent's loop. Its methods do not block.
type Facts interface {
	facts.Source
	// Metrics measures the machine, and each service by its process group.
	Metrics(now time.Time, groups map[string]int) topics.Metrics
}

// Agent is the agent of one domain. Make it with New.
type Agent struct {
	o        Options
	files    *foreign.Files
	events   *mailbox.Box[any]
	messages *mailbox.Box[incoming]
	// membership passes the domain's own to ServeCommands.
	membership chan *membership
}

// abandonAfter is how long the end of the agent waits for a disk.
const abandonAfter = 10 * time.Second

// incoming is a message of a connection with what its topic is: the zero Address for a
// topic that is not one of the agent's tree. It is parsed once, by the deliver function of newLoop.
type incoming struct {
	connID int
	topics.Message
	address topics.Address
}

// The bounds of the loop's queues. A message can be dropped and received again by
// connecting again. Events of the agent's own parts must not be lost (a service
// whose end was missed would be shown as running for ever), and are few: an end,
// a check and a notification for each service, and those of the link.
const (
	maxEvents   = math.MaxInt
	maxMessages = 4096
	// maxMessageBytes is what these messages take up: a broker that floods the
	// agent must not take the machine's memory.
	maxMessageBytes = 16 << 20
)

// New returns an agent that has done nothing yet.
func New(o Options) *Agent {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Browse == nil {
		o.Browse = zeroconf.Browse
	}
	if o.Connect == nil {
		o.Connect = func(ctx context.Context, o client.Options) (Conn, error) {
			c, err := client.Connect(ctx, o)
			if err != nil {
				return nil, err // not a nil *client.Conn: that would be a Conn
			}
			return c, nil
		}
	}
	if o.Random == nil {
		o.Random = rand.N[time.Duration]
	}
	if o.Announce == nil {
		o.Announce = zeroconf.Announce
	}
	files := foreign.New()
	if o.Facts == nil {
		o.Facts = newMachine(o.Config, files)
	}
	return &Agent{o: o, files: files, membership: make(chan *membership, 1), events: mailbox.New[any](maxEvents), messages: mailbox.NewSized(maxMessages, maxMessageBytes, func(m incoming) int { return m.Memory() })}
}

// Reload passes a new configuration to a running agent, or the error of reading
// it: then the old configuration stays in force.
func (a *Agent) Reload(c config.Domain, err error) { a.events.Put(reload{c, err}) }

// Run runs the agent until ctx ends. It returns nil when the agent has published
// that it is offline and disconnected; its services go on running, or are stopped
// where the configuration wants that. A disk that does not answer delays the end
// by abandonAfter at most: then Run returns an error, and what waits for the disk
// ends with the program.
func (a *Agent) Run(ctx context.Context) error {
	h := report.NewHeartbeats(topics.NewTree(a.o.Config.TopicPrefix), a.o.Config.Name, a.o.Log)
	h.Busy(time.Now())
	done := make(chan error, 1)
	go func() { done <- a.run(ctx, h) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	look := time.NewTicker(abandonAfter / 10)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case now := <-look.C:
			if h.Stalled(now) >= abandonAfter {
				h.PublishOffline()
				return errors.New("the agent ends without waiting for its disk, which does not answer (services run on; see dmesg for the disk)")
			}
		}
	}
}
