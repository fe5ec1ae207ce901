package supervisor

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// Adopt takes over the services that the previous agent left running. It is called
// once, before anything else. They run on, watched, until a start command decides
// what should run.
func (s *Supervisor) Adopt(now time.Time) {
	unrecorded := make(map[string]Life)
	for _, l := range s.o.Runner.Lives(s.o.Domain) {
		unrecorded[l.Token] = l
	}
	entries, err := os.ReadDir(s.instancesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.reportDisk("instances", err)
	}
	for _, e := range entries {
		name, isRecord := strings.CutSuffix(e.Name(), ".json")
		if !isRecord || !topics.ValidName(name) {
			continue
		}
		r, found, err := atomicfile.ReadJSON[record](s.recordFile(name), s.o.Log)
		if err != nil || !found || r.Service != name || !r.done() && (r.Boot == "" || r.Boot != s.o.Runner.Boot()) {
			s.removeRecord(name)
			continue
		}
		if r.Group.PID == 0 && !r.Finished { // the agent was killed between the start and its record
			r.Group = unrecorded[r.Instance].Group // without one, Adopt ends what is left of it
		}
		delete(unrecorded, r.Instance)
		if !s.adopt(r, now) {
			s.removeRecord(name)
		}
	}
	s.adoptUnrecorded(slices.Collect(maps.Values(unrecorded)), now)
	if r, ok := s.o.Runner.(interface{ endUnclaimed([]Group) }); ok {
		var adopted []Group
		for _, v := range s.services {
			adopted = append(adopted, v.life.group)
		}
		r.endUnclaimed(adopted)
	}
	s.updateTopics(nil, now)
	s.write(now)
}

// adopt takes over one life. It returns false if nothing of it is left.
func (s *Supervisor) adopt(r record, now time.Time) bool {
	post := s.poster(r.Service, r.Instance)
	r.Group.token, r.Group.adopted = r.Instance, true
	if !r.Finished && !s.o.Runner.Adopt(r.Group, r.Instance, func(e Exit) { post(exited{code: e.code(), message: e.String(), leftovers: e.Leftovers}) }) {
		return false
	}
	v := s.service(r.Service)
	v.commandSpec = r.Spec
	ev := adopted{
		spec: s.complete(r.Service, r.Spec), restarts: r.Restarts, since: r.Since, finished: r.Finished, exitCode: r.ExitCode, stopping: r.Stopping,
		run: run{Token: r.Instance, Revision: r.Revision, Version: r.Version, Port: r.Port, Watchdog: r.Watchdog.Duration(), Adopted: true},
	}
	if !r.Finished {
		v.dirty = true
		s.ports.reserve(r.Service, r.Port)
		s.adoptLife(v, r)
		// The times of a run are those of this agent: the wall clock may have
		// jumped since the record was written.
		ev.run.PID, ev.run.Started, ev.run.Command = r.Group.PID, now, len(v.life.plan.health) > 0
		if r.Ready {
			ev.run.Ready = now
		}
	}
	s.step(v, ev, now)
	if !r.Finished && v.Spec.Exclusive {
		s.findGuard(v, now)
	}
	return true
}

// adoptUnrecorded takes over lives that the previous agent could not record, as its
// disk was full. Otherwise a second instance would be started beside each.
func (s *Supervisor) adoptUnrecorded(found []Life, now time.Time) {
	slices.SortFunc(found, func(a, b Life) int { // the newest of a service first
		return cmp.Or(-cmp.Compare(a.Group.Started, b.Group.Started), strings.Compare(a.Token, b.Token))
	})
	for _, l := range found {
		name := l.Env["SERVICE_NAME"]
		if !topics.ValidName(name) || !s.users.mayRunAs(name, l.UID) {
			continue // another program's process with a copied environment
		}
		log := s.o.Log.With("service", name, "process", l.Group.PID)
		if v := s.services[name]; v != nil && v.State.Alive() {
			log.Warn("a service runs twice: ending the one without a record")
			s.o.Runner.Adopt(Group{}, l.Token, func(Exit) {})
			continue
		}
		r := record{Service: name, Instance: l.Token, Group: l.Group, Version: l.Env["SERVICE_VERSION"], Since: now, Ready: true}
		r.Port, _ = strconv.Atoi(l.Env["SERVICE_PORT"])
		r.Spec.Exclusive = l.Env["DOMINION_FENCE"] != ""
		if l.Env["NOTIFY_SOCKET"] != "" {
			r.Spec.Health = &topics.HealthCheck{Notify: true}
			if µs, err := strconv.ParseInt(l.Env["WATCHDOG_USEC"], 10, 32); err == nil {
				r.Watchdog = topics.Seconds(time.Duration(µs) * time.Microsecond)
			}
		}
		// A process with other arguments, such as a daemon that outlived its service,
		// has no recorded revision: the start command replaces it.
		if s.matchesCommand(name, l.Args) {
			_, r.Revision, _ = strings.Cut(l.Token, ".")
		}
		if s.adopt(r, now) {
			log.Info("adopted a service without a record", "revision", r.Revision)
		}
	}
}

// matchesCommand reports whether args are those that a service is started with.
func (s *Supervisor) matchesCommand(name string, args []string) bool {
	dir := filepath.Join(s.o.ServicesDir, name)
	file, err := s.manifest(name, topics.Spec{})
	if err != nil {
		return false
	}
	n := len(file.Command)
	if n == 0 {
		want := makeArgs(dir)
		return len(args) >= len(want) && slices.Equal(args[:len(want)], want)
	}
	if len(args) < n {
		return false
	}
	args = args[len(args)-n:] // a script has its interpreter in front
	return filepath.Base(args[0]) == filepath.Base(file.Command[0]) && slices.Equal(args[1:], file.Command[1:])
}

var revisionPattern = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

// newToken returns a DOMINION_INSTANCE. It ends with the revision, so that this is
// known of a life without a record, too.
func newToken(revision string) string {
	token := strings.ToLower(rand.Text())
	if revisionPattern.MatchString(revision) {
		token += "." + revision
	}
	return token
}
