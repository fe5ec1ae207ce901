package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A hundred services on twenty domains that come at once are all in Home
// Assistant within ten seconds, with their states, and once more after it was
// restarted.
func TestHomeAssistantTown(t *testing.T) {
	const (
		domains, each = 20, 5
		promise       = 10 * time.Second
	)
	needs(t)
	host := thisHost(t)
	a := newHomeAssistant(t, host)
	address := "127.0.0.1:1883"
	file := filepath.Join(host.Dir, "dominion.toml")
	configure := func(services string) {
		t.Helper()
		a.must(writeFile(file, fmt.Sprintf("name = \"town\"\ndata_dir = %q\n[broker]\nlisten = %q\n[zeroconf]\nenabled = false\n%s",
			filepath.Join(host.Dir, "data"), address, services)))
	}
	configure("")
	c := newCrowd(t, address, domains)
	adoptCrowd(t, c, filepath.Join(host.Dir, "data"))
	hub := host.Start(programs.dominion, "-config", file)
	hub.AwaitLog("listening")
	a.Start()
	a.AddMQTT("127.0.0.1")
	a.Until(wellAgain, "the hub is ready", func(s haStates) bool { return s.Is("on", "binary_sensor.dominion_ready") })

	var text strings.Builder
	for n, f := range c.followers {
		f.catalog = nil
		for i := range each {
			name := fmt.Sprintf("thing-%02d-%d", n, i)
			f.catalog = append(f.catalog, topics.CatalogRow{Service: name, Version: "1.0.0"})
			fmt.Fprint(&text, service(name, `priority = "required"`, fmt.Sprintf("domains = [%q]", f.name)))
		}
	}
	shown := func(s haStates) bool {
		for n, f := range c.followers {
			if !s.Is("on", "binary_sensor.dominion_"+strings.ReplaceAll(f.name, "-", "_")) {
				return false
			}
			for i := range each {
				id := fmt.Sprintf("dominion_thing_%02d_%d", n, i)
				if !s.Is("on", "switch."+id) || !s.Is("running", "sensor."+id+"_state") || !s.Is("off", "binary_sensor."+id+"_problem") {
					return false
				}
			}
		}
		return true
	}
	ctx, stop := context.WithCancel(context.Background())
	defer c.running.Wait()
	defer stop()
	configure(text.String())
	began := time.Now()
	hub.Signal(syscall.SIGHUP)
	c.come(ctx)
	a.Until(time.Minute, "all services run", shown)
	if took := time.Since(began); took > promise {
		t.Errorf("%d services on %d domains are in Home Assistant after %v, want at most %v", domains*each, domains, took, promise)
	} else {
		t.Logf("%d services on %d domains are in Home Assistant after %v", domains*each, domains, took.Round(time.Millisecond))
	}
	if bad, _ := a.Complaints(0); len(bad) > 0 {
		t.Errorf("Home Assistant complains:\n%s", strings.Join(bad, "\n"))
	}

	a.Stop()
	a.Start()
	began = time.Now()
	a.Until(time.Minute, "all services run", shown)
	if took := time.Since(began); took > promise {
		t.Errorf("after a restart of Home Assistant all is there %v after it runs, want at most %v", took, promise)
	} else {
		t.Logf("after a restart of Home Assistant all is there %v after it runs", took.Round(time.Millisecond))
	}
	if bad, _ := a.Complaints(0); len(bad) > 0 {
		t.Errorf("Home Assistant complains:\n%s", strings.Join(bad, "\n"))
	}
}
