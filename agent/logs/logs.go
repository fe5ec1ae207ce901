// Package logs reads and caps the files that services write their output to.
//
// The files belong to the services' processes, which hold them open in append
// mode: nothing here is between a service and its file, so a log goes on while
// the agent is away. A file above the cap is copied to <name>.1 and cut. Only
// the packages below agent may import it.
package logs

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Dir is the directory of the logs: <dir>/<service>/stdout.log and stderr.log.
// It is owned by one loop and not for concurrent use.
type Dir struct {
	dir string
}

// Line is a new line of a service that is followed.
type Line struct {
	Service string
	topics.LogLine
}

// New returns the logs below dir, which need not exist yet.
func New(dir string) *Dir { return &Dir{dir: dir} }

// Poll notes how far the files grew, caps them, and returns the new lines of
// the followed services, in order. It is called each second, more often while
// somebody follows if that is to look smooth.
func (d *Dir) Poll(now time.Time) []Line { return nil }

// Last returns the last n lines of a service, oldest first.
func (d *Dir) Last(service string, n int) []topics.LogLine { return nil }

// Follow makes Poll return the lines that a service writes from now on, until
// the given moment; called again it extends that.
func (d *Dir) Follow(service string, now, until time.Time) {}

// Following tells whether any service is followed at now.
func (d *Dir) Following(now time.Time) bool { return false }
