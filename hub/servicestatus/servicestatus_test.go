package servicestatus

import (
	"slices"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

var start = time.Unix(1000, 0)

// observed returns what is observed of the service web with these instances.
func observed(state topics.State, instances ...Instance) Observed {
	v := topics.Service{Service: "web", State: state, Reason: "the reason"}
	for _, i := range instances {
		if i.State.Listed() {
			v.Instances = append(v.Instances, topics.ServiceInstance{Domain: i.Domain, State: i.State, Health: i.Health})
		}
	}
	return Observed{Status: v, On: true, Ready: true, Instances: slices.Values(instances)}
}

func instance(domain string, state topics.State, message string) Instance {
	health := topics.UnknownHealth
	if state == topics.Running {
		health = topics.Healthy
	}
	return Instance{Domain: domain, State: state, Health: health, Message: message}
}

func unhealthy(domain string) Instance {
	return Instance{Domain: domain, State: topics.Running, Health: topics.Unhealthy}
}

// What was published last is listed by service, until the service is removed.
func TestPublished(t *testing.T) {
	s := New()
	if got := s.Sorted(); got == nil || len(got) != 0 {
		t.Errorf("without services: %#v, want an empty list", got)
	}
	for _, v := range []topics.Service{{Service: "web", Running: 1}, {Service: "lamp"}, {Service: "web", Running: 2}} {
		s.Set(v)
	}
	if got, is := s.Get("web"); !is || got.Running != 2 || !s.Has("web") {
		t.Errorf("web: %+v, %v", got, is)
	}
	names := func() (all []string) {
		for _, v := range s.Sorted() {
			all = append(all, v.Service)
		}
		return all
	}
	if got := names(); !slices.Equal(got, []string{"lamp", "web"}) {
		t.Errorf("sorted: %v", got)
	}
	s.Remove("web")
	if _, is := s.Get("web"); is || s.Has("web") || !slices.Equal(names(), []string{"lamp"}) {
		t.Errorf("after it was removed: %v", names())
	}
	for name, v := range s.All() {
		if name != "lamp" || v.Service != name {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// The problem by the present state alone.
func TestProblem(t *testing.T) {
	off := observed(topics.Stopped)
	off.On = false
	off.Status.Update.Problem = "version 2 did not get healthy"
	updated := observed(topics.Running, instance("a", topics.Running, ""))
	updated.Status.Update.Problem = "version 2 did not get healthy"
	for _, c := range []struct {
		what string
		Observed
		want string
	}{
		{"nothing runs, nothing is wanted", observed(topics.Stopped), ""},
		{"running", observed(topics.Running, instance("a", topics.Running, "")), ""},
		{"running, its update has a problem", updated, "version 2 did not get healthy"},
		{"off, its update has a problem", off, "version 2 did not get healthy"},
		{"in backoff", observed(topics.Backoff, instance("a", topics.Backoff, "exit code 3")), "the reason"},
		{"failed", observed(topics.Failed, instance("a", topics.Failed, "exit code 3")), "the reason"},
		{"pending", observed(topics.Pending), ""},
		{"unhealthy on one of two", observed(topics.Running, unhealthy("a"), instance("b", topics.Running, "")), "is unhealthy on 1 of 2"},
		{"failed on one of two, and unhealthy", observed(topics.Starting, unhealthy("a"), instance("b", topics.Failed, "exit code 3; next try in 4 s\nits last line")), "crashed on b: exit code 3"},
		{"crashed on two", observed(topics.Running, instance("b", topics.Backoff, "exit code 4"), instance("a", topics.Backoff, "exit code 3")), "crashed on a: exit code 3"},
	} {
		if got := New().Problem(c.Observed, start); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// A crash counts until the instance has been well for RestartReset without interruption.
func TestCrashIsForgiven(t *testing.T) {
	s := New()
	s.Crashed("web", "a", "exit code 3; started again", start)
	const problem = "crashed on a: exit code 3; started again"
	well := start.Add(time.Second)
	for _, step := range []struct {
		at       time.Time
		instance Instance
		want     string
		next     time.Time
	}{
		{start, instance("a", topics.Starting, ""), problem, time.Time{}},
		{start.Add(time.Second / 2), instance("a", topics.Running, ""), problem, start.Add(time.Second/2 + topics.RestartReset)},
		{start.Add(time.Second / 2), unhealthy("a"), problem, time.Time{}},
		{well, instance("a", topics.Running, ""), problem, well.Add(topics.RestartReset)},
		{well.Add(topics.RestartReset - 1), instance("a", topics.Running, ""), problem, well.Add(topics.RestartReset)},
		{well.Add(topics.RestartReset), instance("a", topics.Running, ""), "", time.Time{}},
	} {
		if got := s.Problem(observed(step.instance.State, step.instance), step.at); got != step.want || !s.Next().Equal(step.next) {
			t.Errorf("%s and %s after %v: %q, next %v, want %q, %v", step.instance.State, step.instance.Health, step.at.Sub(start), got, s.Next(), step.want, step.next)
		}
	}
	if s.HasCrashed("web", "a") {
		t.Error("the crash counts still")
	}
}

// Expire returns a service when its crash may be forgiven, once.
func TestExpire(t *testing.T) {
	s := New()
	s.Crashed("web", "a", "exit code 3", start)
	running := observed(topics.Running, instance("a", topics.Running, ""))
	s.Problem(running, start)
	if got := s.Expire(start.Add(topics.RestartReset - 1)); got != nil {
		t.Errorf("too early: %v", got)
	}
	over := start.Add(topics.RestartReset)
	if got := s.Expire(over); !slices.Equal(got, []string{"web"}) || !s.Next().IsZero() {
		t.Errorf("expired %v, next %v", got, s.Next())
	}
	if got := s.Problem(running, over); got != "" {
		t.Errorf("after it expired: %q", got)
	}
}

// Crashes of an instance that its domain does not list any more do not count.
func TestCrashOfAnInstanceThatIsGone(t *testing.T) {
	for _, gone := range [][]Instance{
		nil,
		{instance("b", topics.Running, "")},
		{instance("a", topics.Stopped, ""), instance("b", topics.Running, "")},
		{instance("a", topics.Finished, "")},
	} {
		s := New()
		s.Crashed("web", "a", "exit code 3", start)
		if got := s.Problem(observed(topics.Running, gone...), start); got != "" {
			t.Errorf("with %v: %q", gone, got)
		}
	}
	s := New()
	s.Crashed("web", "a", "exit code 3", start)
	off := observed(topics.Stopping, instance("a", topics.Stopping, ""))
	off.On = false
	if got := s.Problem(off, start); got != "" || s.HasCrashed("web", "a") {
		t.Errorf("switched off: %q", got)
	}
}

// Pending is a problem after pendingProblem, and only while the hub assigns services.
func TestPending(t *testing.T) {
	s, pending := New(), observed(topics.Pending)
	starting := pending
	starting.Ready = false
	if got := s.Problem(starting, start); got != "" || !s.Next().IsZero() {
		t.Errorf("before the hub is ready: %q, next %v", got, s.Next())
	}
	over := start.Add(pendingProblem)
	if got := s.Problem(pending, start); got != "" || !s.Next().Equal(over) {
		t.Errorf("at once: %q, next %v, want %v", got, s.Next(), over)
	}
	if got := s.Expire(over); !slices.Equal(got, []string{"web"}) {
		t.Errorf("expired %v", got)
	}
	if got := s.Problem(pending, over); got != "the reason" {
		t.Errorf("after a while: %q", got)
	}
	s.Problem(observed(topics.Running, instance("a", topics.Running, "")), over)
	if got := s.Problem(pending, over.Add(time.Second)); got != "" {
		t.Errorf("again, after it ran: %q", got)
	}
}

// The last error stays when the problem is over. The same crash in several reports is one;
// in several events it is several.
func TestLastError(t *testing.T) {
	s := New()
	if got := s.LastError("web"); got != nil {
		t.Errorf("before any: %+v", got)
	}
	check := func(what, domain, message string, at time.Time) {
		t.Helper()
		if got, want := s.LastError("web"), (topics.ServiceError{At: topics.At(at), Domain: domain, Message: message}); got == nil || *got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	backoff := func(message string, at time.Time) {
		s.Problem(observed(topics.Backoff, instance("a", topics.Backoff, message)), at)
	}
	backoff("exit code 3; next try in 1 s\nits last line", start)
	check("in backoff", "a", "exit code 3", start)
	backoff("exit code 3; next try in 2 s", start.Add(time.Second))
	check("reported again", "a", "exit code 3", start)
	s.Crashed("web", "a", "exit code 3; next try in 2 s", start.Add(2*time.Second))
	check("an event", "a", "exit code 3", start.Add(2*time.Second))
	backoff("exit code 4", start.Add(3*time.Second))
	check("another one", "a", "exit code 4", start.Add(3*time.Second))
	s.Problem(observed(topics.Stopped), start.Add(time.Hour))
	check("when it is gone", "a", "exit code 4", start.Add(3*time.Second))
	s.Remove("web")
	if got := s.LastError("web"); got != nil {
		t.Errorf("after it was removed: %+v", got)
	}
}

// What an earlier run of the hub published counts until there is something newer; the crash
// that it published is not a new one.
func TestRecall(t *testing.T) {
	former := topics.ServiceError{At: topics.At(start), Domain: "a", Message: "exit code 3"}
	published := topics.Service{Link: "http://10.0.0.1:8080/", LastError: &former}
	s := New()
	s.Recall("web", published)
	s.Problem(observed(topics.Backoff, instance("a", topics.Backoff, "exit code 3")), start.Add(time.Hour))
	if got := s.LastError("web"); got == nil || *got != former {
		t.Errorf("the same crash: %+v, want %+v", got, former)
	}
	if got := s.Link(services.Definition{Name: "web"}, nil); got != published.Link {
		t.Errorf("its link is %q, want %q", got, published.Link)
	}
	s = New()
	s.Crashed("web", "b", "exit code 4", start.Add(time.Hour))
	s.Link(services.Definition{Name: "web"}, []topics.Endpoint{{Address: "10.0.0.2", Port: 80}})
	s.Recall("web", published)
	if got := s.LastError("web"); got == nil || got.Domain != "b" {
		t.Errorf("a crash of this run is replaced by %+v", got)
	}
	if got := s.Link(services.Definition{Name: "web"}, nil); got != "http://10.0.0.2/" {
		t.Errorf("the link of this run is replaced by %q", got)
	}
}

// The link is the best endpoint that others reach and that has a web page.
func TestLink(t *testing.T) {
	page := services.Definition{Name: "web", Health: &services.Health{HTTP: "/health"}}
	other := services.Definition{Name: "web"}
	for _, c := range []struct {
		def     services.Definition
		address string
		port    int
		want    string
	}{
		{page, "192.168.1.40", 8080, "http://192.168.1.40:8080/"},
		{page, "192.168.1.40", 443, "https://192.168.1.40/"},
		{page, "2001:db8::20", 8080, "http://[2001:db8::20]:8080/"},
		{page, "2001:db8::80", 80, "http://[2001:db8::80]/"},
		{other, "lamp.local", 80, "http://lamp.local/"},
		{other, "192.168.1.40", 8080, ""},
		{page, "127.0.0.1", 80, ""},
		{page, "::1", 80, ""},
		{page, "0.0.0.0", 80, ""},
		{page, "fe80::1%eth0", 80, ""},
		{page, "localhost", 80, ""},
		{page, "", 80, ""},
	} {
		if got := New().Link(c.def, []topics.Endpoint{{Address: c.address, Port: c.port}}); got != c.want {
			t.Errorf("%s port %d: %q, want %q", c.address, c.port, got, c.want)
		}
	}
	s := New()
	two := []topics.Endpoint{{Address: "127.0.0.1", Port: 80}, {Address: "192.168.1.40", Port: 80}}
	if got := s.Link(page, two); got != "http://192.168.1.40/" {
		t.Errorf("the second endpoint: %q", got)
	}
	if got := s.Link(page, nil); got != "http://192.168.1.40/" {
		t.Errorf("while it runs nowhere: %q", got)
	}
	if got := s.Link(page, two[:1]); got != "" {
		t.Errorf("where nobody reaches it: %q", got)
	}
}

// Of the release notes of a version the first count, until no catalog has it any more.
func TestReleases(t *testing.T) {
	s := New()
	first := topics.CatalogRow{Service: "web", Version: "1.0.0", ReleaseURL: "https://example.com/1", Summary: "The first."}
	s.AddRelease(topics.CatalogRow{Service: "web", Version: "1.0.0"})
	if got := s.Release("web", "1.0.0"); got != (topics.CatalogRow{}) {
		t.Errorf("without notes: %+v", got)
	}
	s.AddRelease(first)
	s.AddRelease(topics.CatalogRow{Service: "web", Version: "1.0.0", Summary: "Another one."})
	if got := s.Release("web", "1.0.0"); got != first {
		t.Errorf("%+v, want %+v", got, first)
	}
	s.RemoveRelease("web", "2.0.0")
	s.RemoveRelease("lamp", "1.0.0")
	if got := s.Release("web", "1.0.0"); got != first {
		t.Errorf("after others were removed: %+v, want %+v", got, first)
	}
	s.RemoveRelease("web", "1.0.0")
	if got := s.Release("web", "1.0.0"); got != (topics.CatalogRow{}) {
		t.Errorf("after it was removed: %+v", got)
	}
}
