package hub

import (
	"log/slog"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/publisher"
	"github.com/jmbarzee/dominion/hub/stall"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity/secrets"
)

// Bus carries messages away. Publish must not block.
type Bus = publisher.Bus

// Options are what a Hub is made of.
type Options struct {
	Config  config.Dominion
	Version string
	Store   *store.Store
	Bus     Bus
	// Embedded reports that the broker began with the hub: nobody is connected
	// to it from before, whatever it retained.
	Embedded bool
	// Alive is how often the hub publishes that it is there, where its will may
	// never be published because the broker is not its own; 0: not.
	Alive time.Duration
	// Verify asks the bus for topics, in order, as if for the first time, so that
	// what is retained there comes, and calls Verifying. It must not block. Nil:
	// the broker is ours, and replays retained messages to wildcards.
	Verify func(topics []string)
	// Watch gets all topics and filters, sorted, besides Filters, whose
	// messages are wanted from now on: those before are not. It must not block.
	// Nil: Attach sets it.
	Watch func(topics []string)
	// Environ is what a configuration is read with, as os.Environ gives it.
	Environ []string
	// Machine returns the addresses of the hub's own machine; it is not called in
	// the loop. Nil: they are unknown.
	Machine func() []string
	// Figures reads the kernel's figures that show why the loop stood still; nil: there are none.
	Figures func() stall.Figures
	// Broker is the embedded broker; nil: the broker is not the dominion's own.
	Broker EmbeddedBroker
	// Certificate returns until when the broker's own certificate is valid; nil: it
	// has none.
	Certificate func() time.Time
	// HTTPCertificate is the same for a certificate that HTTPS alone has.
	HTTPCertificate func() time.Time
	// Control is the path of the control socket; "": there is none, for the reason in
	// ControlProblem.
	Control, ControlProblem string
	// Keys are the dominion's; nil: there are none, for the reason in KeyProblem.
	Keys       *keys.Keys
	KeyProblem string
	// TokenFiles are where the token of the hub's own machine is written.
	TokenFiles []string
	// Reach returns where domains reach the broker: those of the hub's own machine, "":
	// nowhere, and others. Nil: nowhere.
	Reach func() (local string, others []string)
	// Secrets are the values that services get; nil: they cannot be stored, for the reason
	// in SecretProblem, which is also why a vault is locked.
	Secrets       *secrets.Vault
	SecretProblem string
	// Bundles are those in the registry; nil: there is none. Registry returns its addresses;
	// nil: there are none.
	Bundles  Bundles
	Registry func() []string
	// Problems are the addresses of HTTP that are taken, in words.
	Problems []string
	Log      *slog.Logger
}
