package hub_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const restless = `
[services.web]
priority = "required"
replicas = 1
[services.cam]
priority = "required"
traits = ["cam"]
[services.one]
priority = "required"
domains = ["kitchen"]
[services.two]
priority = "required"
domains = ["kitchen"]
`

// lose cuts an agent off until the hub has lost it, and lets it come back.
func (h *home) lose(a *agent) {
	h.Helper()
	a.cut()
	time.Sleep(5 * time.Second)
	h.rejoin(a)
}

func (h *home) rejoin(a *agent) {
	h.Helper()
	a.quit()
	a.connection().Close()
	if err := a.join(); err != nil {
		h.Fatal(err)
	}
	time.Sleep(5 * time.Second)
}

func (h *home) domain(name string) topics.DomainView {
	h.Helper()
	var all []topics.DomainView
	if err := json.Unmarshal(h.ask(topics.VerbDomains, "").Data, &all); err != nil {
		h.Fatal(err)
	}
	for _, d := range all {
		if d.Name == name {
			return d
		}
	}
	h.Fatalf("no domain %s", name)
	return topics.DomainView{}
}

// why is what the hub says of a service on a domain.
func (h *home) why(service, domain string) string {
	h.Helper()
	var w topics.Why
	if err := json.Unmarshal(h.ask(topics.VerbWhy, `{"service":"`+service+`","domain":"`+domain+`"}`).Data, &w); err != nil || len(w.Domains) != 1 {
		h.Fatal(err, w)
	}
	return w.Domains[0].Reason
}

// stopAndStart stops a service and starts it again, wherever that is now.
func (h *home) stopAndStart(service string) {
	h.publish("dominion/service/"+service+"/set", topics.Off, false)
	time.Sleep(3 * time.Second)
	h.publish("dominion/service/"+service+"/set", topics.On, false)
	time.Sleep(3 * time.Second)
}

// After three losses in ten minutes nothing is moved back to a domain for ten
// minutes, unless nothing else can run it; then all is as before.
func TestFlappingDomainGetsNothingBack(t *testing.T) {
	inHome(t, restless, func(h *home) {
		kitchen := h.agent("kitchen", nil, "web", "one", "two")
		attic := h.agent("attic", []string{"cam"}, "web", "cam")
		for _, a := range []*agent{kitchen, attic} {
			if err := a.join(); err != nil {
				h.Fatal(err)
			}
		}
		defer kitchen.leave()
		defer attic.leave()
		h.stopAndStart("web")
		if got := h.where("web"); got != "[attic:running]" {
			h.Fatalf("web begins at %s", got)
		}
		if got := h.why("web", "attic"); got != "required; it is on attic already, which was chosen then: attic had less to do (1 service) than kitchen (2 services)" {
			h.Errorf("why: %s", got)
		}
		for loss := range 3 {
			if h.saw(topics.DomainFlapping) || h.domain("attic").Problem != "" {
				h.Fatalf("it flaps after %d losses", loss)
			}
			h.lose(attic)
		}
		if n := h.count(topics.DomainFlapping); n != 1 {
			h.Fatalf("%d events say that it flaps", n)
		}
		if got := h.domain("attic").Problem; !strings.HasPrefix(got, "was lost 3 times within 10 minutes") || !strings.Contains(got, "nothing is moved back to it for 10 minutes") {
			h.Errorf("problem %q", got)
		}
		if got := h.where("web") + h.where("cam"); got != "[kitchen:running][attic:running]" {
			h.Fatalf("with attic back: %s", got)
		}
		h.stopAndStart("web")
		if got := h.where("web"); got != "[kitchen:running]" {
			h.Fatalf("web was moved back: %s", got)
		}
		if got := h.why("web", "kitchen"); !strings.Contains(got, "attic was lost too often lately") {
			h.Errorf("why on kitchen: %s", got)
		}
		kitchen.cut()
		time.Sleep(7 * time.Second)
		if got := h.where("web"); got != "[attic:running]" {
			h.Fatalf("nothing else can run it, but it is %s", got)
		}
		h.rejoin(kitchen)
		h.stopAndStart("web")
		if got := h.where("web"); got != "[kitchen:running]" {
			h.Fatalf("web is %s", got)
		}
		if got := h.domain("attic").Problem; !strings.Contains(got, "for 10 minutes,") && !strings.Contains(got, "for 9 minutes,") {
			h.Errorf("problem %q", got)
		}
		time.Sleep(10 * time.Minute)
		if got := h.domain("attic").Problem; got != "" {
			h.Errorf("it still has the problem %q", got)
		}
		if got := h.where("web"); got != "[kitchen:running]" {
			h.Fatalf("web moved without cause: %s", got)
		}
		h.stopAndStart("web")
		if got := h.where("web"); got != "[attic:running]" {
			h.Fatalf("with all calm web is %s", got)
		}
		if n := h.count(topics.DomainFlapping); n != 1 {
			h.Errorf("%d events say that it flaps", n)
		}
	})
}

// Losses that are further apart are bad luck.
func TestRareLossesAreNoFlapping(t *testing.T) {
	inHome(t, restless, func(h *home) {
		attic := h.agent("attic", []string{"cam"}, "web", "cam")
		if err := attic.join(); err != nil {
			h.Fatal(err)
		}
		defer attic.leave()
		for range 4 {
			h.lose(attic)
			time.Sleep(5 * time.Minute)
		}
		if n := h.count(topics.DomainLost); n != 4 {
			h.Fatalf("lost %d times", n)
		}
		if h.saw(topics.DomainFlapping) {
			h.Error("it flaps")
		}
	})
}
