package ctl

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/topics"
)

const (
	defaultLines = 100
	followFor    = 60 * time.Second // what an agent is asked to stream for
	renewEvery   = 30 * time.Second // and how often it is asked again
)

// logsCommand shows the log of a service, once or continuously.
func (a *app) logsCommand() *cobra.Command {
	var l logRequest
	var since sinceFlag
	cmd := &cobra.Command{
		Use: "logs SERVICE [DOMAIN]", Short: "The last lines that a service wrote", GroupID: "look",
		Args: a.check(names{"SERVICE", "[DOMAIN]"}), ValidArgsFunction: a.completed(names{"SERVICE", "[DOMAIN]"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkListing(l.follow, l.lines, "domain/+/service/"+args[0]+"/log"); err != nil {
				return err
			}
			if since.isSet() && !cmd.Flags().Changed("lines") {
				l.lines = maxLines
			}
			l.service, l.domain, l.from = args[0], arg(args, 1), since.from(a.env.now())
			return a.logs(cmd.Context(), l)
		},
	}
	cmd.Flags().BoolVarP(&l.follow, "follow", "f", false, "go on with what it writes now, until Ctrl-C")
	cmd.Flags().IntVarP(&l.lines, "lines", "n", defaultLines, "how many of the last `N`")
	cmd.Flags().BoolVarP(&l.times, "times", "t", false, "show when the agent saw each line")
	cmd.Flags().Var(&since, "since", sinceUsage)
	return cmd
}

// logRequest is what a user wants of a log.
type logRequest struct {
	service, domain string // domain: "" for wherever the service is
	lines           int
	from            time.Time // the zero time: any
	times, follow   bool
}

// tail is what one domain has of a service's log; the document of logs is a
// list of them.
type tail struct {
	Domain string           `json:"domain"`
	Lines  []topics.LogLine `json:"lines"`
	Error  string           `json:"error,omitempty"`
}

// logs prints the last lines of a log, and goes on with new ones if asked to.
func (a *app) logs(ctx context.Context, l logRequest) error {
	f := &follower{app: a, request: l, printed: make(map[string][]topics.LogLine)}
	f.out = logWriter{w: bufio.NewWriter(a.env.Stdout), style: a.style, times: l.times}
	if l.follow {
		return a.reconnecting(ctx, func(s *session, resumed bool) error { return f.followOn(ctx, s, resumed) })
	}
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	f.session = s
	domains, err := f.domainsWanted(ctx)
	if err != nil {
		return err
	}
	tails, err := f.attach(ctx, domains)
	if a.json {
		if len(f.out.domains) == 0 {
			return err
		}
		if e := a.printJSON(topics.Encode(tails)); e != nil {
			return e
		}
		if f := (*failure)(nil); errors.As(err, &f) {
			f.written = true
		}
		return err
	}
	f.print(tails)
	if e := f.flush(); e != nil || err != nil {
		return cmp.Or(e, err)
	}
	if l.lines > 0 && !slices.ContainsFunc(tails, func(t tail) bool { return len(t.Lines) > 0 }) {
		wrote := "nothing"
		if !l.from.IsZero() {
			wrote = "nothing since " + clock(topics.At(l.from), a.env.now())
		}
		a.infof("%s has written %s on %s", l.service, wrote, strings.Join(f.out.domains, ", "))
	}
	return nil
}

// followOn shows the last lines and those that come, on one connection. On
// another than the first it goes on after what was printed already.
func (f *follower) followOn(ctx context.Context, s *session, resumed bool) error {
	f.session = s
	domains := f.out.domains
	if !resumed {
		var err error
		if domains, err = f.domainsWanted(ctx); err != nil {
			return err
		}
	}
	f.out.domains = nil
	tails, err := f.attach(ctx, domains)
	f.print(tails)
	if e := f.flush(); e != nil {
		return e
	}
	if err != nil && len(f.out.domains) == 0 {
		f.out.domains = domains // to be asked when the connection is there again
		return err
	}
	if err != nil {
		f.app.infof("dominionctl: %v", err)
	}
	return f.follow(ctx)
}

// domainsWanted returns the domains whose log is shown.
func (f *follower) domainsWanted(ctx context.Context) ([]string, error) {
	if f.request.domain != "" {
		return []string{f.request.domain}, nil
	}
	return f.app.domainsOf(ctx, f.session, f.request.service)
}

// domainsOf returns the domains that have a log of a service: those it is on,
// else those it was on lately.
func (a *app) domainsOf(ctx context.Context, s *session, service string) ([]string, error) {
	o, err := s.overview(ctx, a.timeout)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(o.Services, func(v topics.Service) bool { return v.Service == service })
	if i < 0 {
		return nil, a.withSuggestion(ctx, s, topics.HubRequest{Service: service}, fail(ExitFailed, "", "there is no service %q", service))
	}
	var all, now []string
	micro := false
	for _, d := range o.Domains {
		had := slices.ContainsFunc(d.Services, func(i topics.Instance) bool { return i.Service == service })
		has := slices.ContainsFunc(o.Services[i].Instances, func(i topics.ServiceInstance) bool { return i.Domain == d.Name })
		otherMachine := d.State == topics.DomainIsRefused || d.State == topics.DomainIsLonely || d.State == topics.DomainIsWaiting // it claims the same name
		if !had && !has || !topics.ValidName(d.Name) || otherMachine {
			continue
		}
		switch {
		case d.Micro:
			micro = true
		case has:
			now = append(now, d.Name)
		case d.State == topics.DomainIsOnline:
			all = append(all, d.Name)
		}
	}
	switch {
	case len(now) > 0:
		return now, nil
	case len(all) > 0:
		return all, nil
	case micro:
		return nil, fail(ExitFailed, "", "%s runs on a microcontroller, which keeps no log", service)
	}
	return nil, fail(ExitFailed, "dominionctl why "+service+"; to see an old log name the domain: dominionctl logs "+service+" DOMAIN",
		"%s runs nowhere: %s", service, cmp.Or(o.Services[i].Reason, string(o.Services[i].State)))
}

// follower shows the log of one service, from one domain or several.
type follower struct {
	app     *app
	session *session
	request logRequest
	out     logWriter
	// printed are the last lines of each domain: what an answer on another
	// connection begins with again.
	printed map[string][]topics.LogLine
}

// overlapLines is how many of the printed lines are remembered, and
// resumeLines how many are asked for on another connection.
const (
	overlapLines = 100
	resumeLines  = 1000
)

// attach asks domains for the last lines, and to go on if the request says so.
// It returns what came, also with an error.
func (f *follower) attach(ctx context.Context, domains []string) ([]tail, error) {
	ask := topics.HubRequest{Service: f.request.service, Lines: max(1, f.request.lines)}
	if slices.ContainsFunc(domains, func(d string) bool { return len(f.printed[d]) > 0 }) {
		ask.Lines = max(ask.Lines, resumeLines)
	}
	if f.request.follow {
		ask.Follow = topics.Seconds(followFor)
		for _, d := range domains { // before the question: nothing is missed in between
			if err := f.session.subscribe(ctx, f.session.tree.Log(d, f.request.service)); err != nil {
				return nil, err
			}
		}
	}
	replies, err := f.session.askLogs(ctx, domains, ask, f.app.timeout)
	if err != nil {
		return nil, err
	}
	var tails []tail
	var failures []error
	for _, d := range domains {
		t := tail{Domain: d, Lines: []topics.LogLine{}}
		lines, err := f.read(ctx, d, replies)
		if err != nil {
			failures = append(failures, err)
			t.Error = err.Error()
		} else {
			f.out.domains = append(f.out.domains, d)
			f.session.dropDuplicates(f.session.tree.Log(d, f.request.service), lines)
			t.Lines = append(t.Lines, f.newLines(d, lines)...)
		}
		tails = append(tails, t)
	}
	return tails, worst(failures)
}

// read returns the lines in the answer of a domain, or why there are none.
func (f *follower) read(ctx context.Context, domain string, replies map[string]topics.Reply) ([]topics.LogLine, error) {
	reply, answered := replies[domain]
	if !answered {
		return nil, f.noAnswer(ctx, domain)
	}
	if err := refusal(reply); err != nil {
		if strings.HasPrefix(err.Error(), topics.DeniedPrefix) {
			return nil, err
		}
		if !strings.HasPrefix(err.Error(), "there is no domain ") {
			err = fail(ExitFailed, "", "%s: %v", domain, err)
		}
		return nil, f.app.withSuggestion(ctx, f.session, topics.HubRequest{Service: f.request.service, Domain: domain}, err)
	}
	data, err := topics.DecodeForDisplay[topics.LogLines]("the log of "+domain, reply.Data)
	if err != nil {
		return nil, fail(ExitFailed, "update the older of dominionctl and the agent", "%v", err)
	}
	return data.Lines, nil
}

// noAnswer is the error that a domain did not answer, with its state as far as known.
func (f *follower) noAnswer(ctx context.Context, domain string) error {
	o, err := f.session.overview(ctx, time.Second)
	if err != nil {
		return fail(ExitNoAnswer, "", "the domain %s did not answer within %v", domain, f.app.timeout)
	}
	i := slices.IndexFunc(o.Domains, func(d topics.DomainView) bool { return d.Name == domain })
	if i < 0 {
		return f.app.withSuggestion(ctx, f.session, topics.HubRequest{Domain: domain}, fail(ExitFailed, "", "there is no domain %q", domain))
	}
	return fail(ExitNoAnswer, "", "the domain %s did not answer within %v: it is %s", domain, f.app.timeout, o.Domains[i].State)
}

// worst joins failures to one; no answer is worse than a refusal.
func worst(failures []error) error {
	if len(failures) == 0 {
		return nil
	}
	all := &failure{code: ExitFailed}
	var messages []string
	for _, err := range failures {
		var f *failure
		if errors.As(err, &f) {
			all.code = max(all.code, f.code)
			all.hint = cmp.Or(all.hint, f.hint)
		}
		messages = append(messages, err.Error())
	}
	all.message = strings.Join(messages, "; ")
	return all
}

// print writes the lines of several domains in the order of their time; a
// line without one stays behind the line before it.
func (f *follower) print(tails []tail) {
	type line struct {
		at     time.Time
		domain string
		line   topics.LogLine
	}
	var all []line
	for _, t := range tails {
		var at time.Time
		for _, l := range t.Lines {
			if l.At.After(at) {
				at = l.At.Time
			}
			all = append(all, line{at, t.Domain, l})
		}
	}
	slices.SortStableFunc(all, func(x, y line) int { return x.at.Compare(y.at) })
	for _, l := range all {
		f.write(l.domain, l.line)
	}
}

func (f *follower) flush() error {
	if err := f.out.w.Flush(); err != nil {
		return fail(ExitFailed, "", "cannot write: %v", err)
	}
	return nil
}

// write writes a line, and records it for another connection.
func (f *follower) write(domain string, l topics.LogLine) {
	f.out.write(domain, l)
	if f.request.follow {
		last := append(f.printed[domain], l)
		f.printed[domain] = last[max(0, len(last)-overlapLines):]
	}
}

// newLines returns the lines of an answer that are to be shown: those after what
// was printed already; of the first answer those that the request asks for.
func (f *follower) newLines(domain string, lines []topics.LogLine) []topics.LogLine {
	if last := f.printed[domain]; len(last) > 0 {
		for n := len(lines); n > 0; n-- {
			if overlap(last, lines[max(0, n-len(last)):n]) == min(n, len(last)) {
				return lines[n:]
			}
		}
		return lines
	}
	if f.request.lines == 0 {
		return nil
	}
	if first := slices.IndexFunc(lines, func(l topics.LogLine) bool { return !l.At.Before(f.request.from) }); first >= 0 {
		return lines[first:]
	}
	return nil
}

// follow writes what comes until ctx ends, from wherever the service goes
// unless the request names a domain.
func (f *follower) follow(ctx context.Context) error {
	s := f.session
	roam := f.request.domain == ""
	status := s.tree.Service(topics.ServiceStatus, f.request.service)
	if roam {
		if err := s.subscribe(ctx, status); err != nil {
			return err
		}
	}
	renew := time.Now().Add(f.app.env.renew)
	for {
		if len(s.queue)+len(s.received) == 0 { // nothing more to show at once
			if err := f.flush(); err != nil {
				return err
			}
		}
		waiting, cancel := context.WithTimeout(ctx, time.Until(renew))
		m, err := s.next(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return f.flush()
		case errors.Is(err, context.DeadlineExceeded):
			f.renew()
			renew = time.Now().Add(f.app.env.renew)
			continue
		case err != nil:
			return cmp.Or(f.flush(), err)
		case m.Topic == status:
			f.roam(ctx, m)
		default:
			a, ok := s.tree.Parse(m.Topic)
			if !ok || a.Kind != topics.DomainServiceLog || a.Service != f.request.service {
				continue
			}
			if l, err := topics.DecodeForDisplay[topics.LogLine](m.Topic, m.Payload); err == nil {
				f.write(a.Domain, l)
			}
		}
	}
}

// renew asks the agents to go on streaming. Nobody waits for the answers: one
// that is away does not stop the others, and is asked again.
func (f *follower) renew() {
	for _, d := range f.out.domains {
		f.session.requestLogs(topics.HubRequest{
			Transaction: random(8), Service: f.request.service, Domain: d, Lines: 1, Follow: topics.Seconds(followFor),
		})
	}
}

// roam follows a service to domains where it was not before.
func (f *follower) roam(ctx context.Context, m topics.Message) {
	v, err := topics.DecodeForDisplay[topics.Service](m.Topic, m.Payload)
	if err != nil {
		return // an empty payload: it is gone from the configuration
	}
	var more []string
	for _, i := range v.Instances {
		if topics.ValidName(i.Domain) && !slices.Contains(f.out.domains, i.Domain) && i.State.Alive() {
			more = append(more, i.Domain)
		}
	}
	if len(more) == 0 {
		return
	}
	tails, err := f.attach(ctx, more)
	f.print(tails)
	if err != nil && ctx.Err() == nil { // the others go on
		f.app.infof("dominionctl: %v", err)
	}
}

// requestLogs asks the hub for the log of a service on a domain.
func (s *session) requestLogs(ask topics.HubRequest) {
	s.publish(s.tree.Message(topics.Address{Kind: topics.Request, Verb: topics.VerbLogs}, topics.Encode(ask)))
}

// askLogs asks for the log of a service on domains, and returns the answers that came in
// time.
func (s *session) askLogs(ctx context.Context, domains []string, ask topics.HubRequest, timeout time.Duration) (map[string]topics.Reply, error) {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	response := s.tree.Topic(topics.Address{Kind: topics.Response, Verb: topics.VerbLogs})
	if err := s.subscribe(waiting, response); err != nil {
		return nil, err
	}
	asked := make(map[string]string) // transaction → domain
	for _, d := range domains {
		ask.Domain, ask.Transaction = d, random(8)
		asked[ask.Transaction] = d
		s.requestLogs(ask)
	}
	replies := make(map[string]topics.Reply)
	for len(replies) < len(domains) {
		m, err := s.receive(waiting)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return replies, nil
		case err != nil:
			return nil, err
		}
		if m.Topic != response {
			if err := s.enqueue(m); err != nil {
				return nil, err
			}
			continue
		}
		if r, err := topics.DecodeForDisplay[topics.Reply](m.Topic, m.Payload); err == nil && asked[r.Transaction] != "" {
			replies[asked[r.Transaction]] = r
		}
	}
	return replies, nil
}

// dropDuplicates removes lines from the queue that were streamed while the answer
// was on its way and are at its end too.
func (s *session) dropDuplicates(topic string, answered []topics.LogLine) {
	var streamed []topics.LogLine
	for _, m := range s.queue {
		if m.Topic == topic {
			l, _ := topics.DecodeForDisplay[topics.LogLine](m.Topic, m.Payload)
			streamed = append(streamed, l)
		}
	}
	drop := overlap(answered, streamed)
	s.dropQueued(func(m topics.Message) bool {
		if m.Topic != topic || drop == 0 {
			return false
		}
		drop--
		return true
	})
}

// overlap returns how many of the first new lines are the last old ones.
func overlap(old, new []topics.LogLine) int {
	same := func(x, y topics.LogLine) bool {
		return x.Line == y.Line && (x.At.IsZero() || y.At.IsZero() || x.At.Equal(y.At.Time))
	}
	for n := min(len(old), len(new)); n > 0; n-- {
		if slices.EqualFunc(old[len(old)-n:], new[:n], same) {
			return n
		}
	}
	return 0
}
