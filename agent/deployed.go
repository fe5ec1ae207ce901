package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/agent/bundles"
	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/agent/programs"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// bundleReserve is how much of the disk bundles leave to others, in bytes.
const bundleReserve = 100 << 20

// registryPort is where the registry of a hub is that has not published its address.
const registryPort = "8443"

// progressInterval is the least time between two reports of how much of a bundle is there.
const progressInterval = time.Second

// deployed has the bundles on the disk for the loop: it pulls, builds and removes them beside it.
type deployed struct {
	config config.Domain
	files  *foreign.Files
	member *membership
	dial   func(ctx context.Context, addr string) (net.Conn, error)
	post   func(event any)
	// store is nil where it cannot be opened; fault says why.
	store *bundles.Store
	fault error
	// removing is locked while bundles are removed, and read-locked while one is pulled.
	removing sync.RWMutex
	workers  sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc
	// registry are the addresses that the hub has published.
	registry []string
	// build runs the build target of a service.
	build func(context.Context, supervisor.Build) error
}

// bundleProgress is the event that more of a layer is there.
type bundleProgress struct {
	layer   string
	percent int
}

// newDeployed opens the bundles in data_dir.
func (a *Agent) newDeployed(member *membership) *deployed {
	d := &deployed{config: a.o.Config, files: a.files, member: member, dial: a.o.Dial, post: a.events.Put}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.store, d.fault = foreign.Do(a.files, a.o.Config.DataDir, func() (*bundles.Store, error) {
		return bundles.Open(bundles.Options{Dir: bundlesDir(a.o.Config), Reserve: bundleReserve, Rate: a.o.Config.FetchRate, Log: a.o.Log})
	})
	if d.fault != nil {
		d.store = nil
		a.o.Log.Error("nothing can be deployed here", "error", d.fault)
	}
	return d
}

// bundlesDir returns the directory of the bundles.
func bundlesDir(c config.Domain) string { return filepath.Join(c.DataDir, "bundles") }

// close ends what runs beside the loop.
func (d *deployed) close() {
	d.cancel()
	d.workers.Wait()
}

// find returns the directory of a bundle that is ready to run. While bundles are removed there is
// none: then it is found by fetch.
func (d *deployed) find(service string, v topics.BundleVariant) (dir string, found bool) {
	if d.store == nil || !d.removing.TryRLock() {
		return "", false
	}
	defer d.removing.RUnlock()
	type place struct {
		dir          string
		found, built bool
	}
	p, err := foreign.Do(d.files, d.config.DataDir, func() (p place, _ error) {
		if p.dir, p.found = d.store.Path(v); p.found {
			p.dir, p.built = d.store.Built(p.dir)
		}
		return p, nil
	})
	if err != nil || !p.found || p.built {
		return p.dir, err == nil && p.found
	}
	file, err := d.manifest(service, p.dir)
	return p.dir, err == nil && file.Build == ""
}

// manifest reads the service.toml of a bundle as the user of its service.
func (d *deployed) manifest(service, dir string) (config.Service, error) {
	user, err := supervisor.UserOf(service, d.config.RunAs, d.config.AllowRoot)
	if err != nil {
		return config.Service{}, err
	}
	return supervisor.ReadManifest(d.files, dir, user)
}

// begin has a bundle pulled, and its result posted.
func (d *deployed) begin(f programs.Fetch, hub string) {
	addresses := registryAddresses(d.registry, hub)
	d.workers.Go(func() {
		dir, err := d.fetch(f, addresses)
		d.post(programs.Result{Layer: f.Variant.Layer, Dir: dir, Err: err, Soon: errors.Is(err, bundles.ErrLater)})
	})
}

// fetch pulls a bundle, and makes it ready.
func (d *deployed) fetch(f programs.Fetch, addresses []string) (dir string, err error) {
	if d.store == nil {
		return "", d.fault
	}
	d.removing.RLock()
	defer d.removing.RUnlock()
	client, err := d.client()
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	var reported time.Time
	dir, err = d.store.Fetch(d.ctx, bundles.Request{
		Service: f.Service, Variant: f.Variant, Addresses: addresses, Client: client,
		Progress: func(percent int) {
			if now := time.Now(); now.Sub(reported) >= progressInterval {
				reported = now
				d.post(bundleProgress{f.Variant.Layer, percent})
			}
		},
	})
	if err != nil {
		return "", err
	}
	return d.makeReady(f, dir)
}

// makeReady builds a bundle whose service.toml wants that.
func (d *deployed) makeReady(f programs.Fetch, dir string) (string, error) {
	if built, done := d.store.Built(dir); done {
		return built, nil
	}
	file, err := d.manifest(f.Service, dir)
	if err != nil || file.Build == "" {
		return dir, err
	}
	user, err := supervisor.UserOf(f.Service, d.config.RunAs, d.config.AllowRoot)
	if err != nil {
		return "", err
	}
	limit := services.DefaultStartTimeout
	if s, _ := file.Complete(f.Spec); s.StartTimeout > 0 {
		limit = s.StartTimeout.Duration()
	}
	built, err := d.store.Build(dir, user, func(copied, home string) error {
		ctx, cancel := context.WithTimeout(d.ctx, limit)
		defer cancel()
		err := d.build(ctx, supervisor.Build{Service: f.Service, Version: f.Spec.Bundle.Version, Dir: copied, Home: home, Target: file.Build, User: user})
		if ctx.Err() != nil && d.ctx.Err() == nil {
			return fmt.Errorf("it was not built within %v (start_timeout)", limit)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%w: %w", programs.ErrBuild, err)
	}
	return built, nil
}

// client returns a client that verifies the registry as the hub, and shows the domain's
// certificate.
func (d *deployed) client() (*http.Client, error) {
	var secure *tls.Config
	if d.member != nil {
		secure = d.member.TLS()
	}
	if secure == nil {
		return nil, fmt.Errorf("%w: no dominion has adopted this domain", bundles.ErrLater)
	}
	t := &http.Transport{TLSClientConfig: secure, ResponseHeaderTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second}
	dial := d.dial
	if dial == nil {
		dialer := &net.Dialer{Timeout: 10 * time.Second}
		dial = func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }
	}
	t.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) }
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// registryAddresses returns where the registry of a hub may be: at the host by which the domain
// reaches its hub, and where the hub has published it.
func registryAddresses(published []string, hub string) (all []string) {
	port := registryPort
	for _, address := range published {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			continue
		}
		port = u.Port()
		all = append(all, "https://"+u.Host)
	}
	if u, err := url.Parse(hub); err == nil && u.Hostname() != "" {
		first := "https://" + net.JoinHostPort(u.Hostname(), port)
		all = slices.Insert(slices.DeleteFunc(all, func(s string) bool { return s == first }), 0, first)
	}
	return all
}

// retain removes the bundles beside the loop that are not needed, unless it does so already, or one
// is pulled.
func (d *deployed) retain(needed func() ([]topics.BundleVariant, bool)) {
	if d.store == nil || !d.removing.TryLock() {
		return
	}
	all, any := needed()
	if !any {
		d.removing.Unlock()
		return
	}
	d.workers.Go(func() {
		defer d.removing.Unlock()
		if err := d.store.Retain(all); err != nil {
			d.post(bundlesLeft{err})
		}
	})
}

// bundlesLeft is the event that bundles could not be removed.
type bundlesLeft struct{ err error }

// newPrograms returns what the services of a loop run from.
func (l *loop) newPrograms() *programs.Programs {
	return programs.New(programs.Options{
		Platform: l.platform, Accept: l.accept, Local: l.inventory.Has, Find: l.deployed.find,
		Begin:        func(f programs.Fetch) { l.deployed.begin(f, l.store.memory.Hub) },
		StartTimeout: func(service string) time.Duration { return l.supervisor.StartTimeout(service) },
		Report: func(kind topics.EventType, service, text string) {
			l.log.Warn(text, "event", kind, "service", service)
			l.reports.Event(kind, service, text)
		},
		Store: func(all map[string]programs.Record) {
			l.reports.WriteError(l.store.setPrograms(all, time.Now()))
		},
	}, l.store.programs)
}

// decide gives the supervisor what the services run from now.
func (l *loop) decide(now time.Time) {
	if l.stopBy.IsZero() {
		l.supervisor.Apply(l.programs.Decide(now), now)
	}
}

// fetched takes the result of a fetch.
func (l *loop) fetched(r programs.Result, now time.Time) {
	if r.Err != nil && l.stopBy.IsZero() {
		l.log.Warn("a bundle is not there yet", "layer", r.Layer, "error", r.Err)
	}
	if l.programs.Done(r, now) {
		l.decide(now)
	}
}

// expirePrograms does what is due of the programs that the services run from.
func (l *loop) expirePrograms(now time.Time) {
	if !l.stopBy.IsZero() {
		return
	}
	var instances []topics.Instance
	if l.programs.Watches() {
		instances = l.supervisor.Instances()
	}
	if l.programs.Expire(instances, l.connection.Reachable() && !l.orders.HubOffline(), now) {
		l.decide(now)
	}
	l.deployed.retain(func() ([]topics.BundleVariant, bool) { return l.programs.Unused(l.supervisor.Bundles()) })
}

// instances returns what runs, or should run.
func (l *loop) instances() []topics.Instance { return l.programs.Show(l.supervisor.Instances()) }

// deployedServices returns the services that a start command names with a bundle, sorted.
func deployedServices(specs map[string]topics.Spec) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		if specs[name].Bundle != nil {
			all = append(all, name)
		}
	}
	return all
}

// RunUnpack unpacks a bundle, and does not return, if args, the program's name first, request
// that. Otherwise it does nothing.
func RunUnpack(args []string) { bundles.RunUnpack(args) }

// registryOf returns the addresses of a hub's registry as one word.
func registryOf(h topics.Hub) string { return strings.Join(h.Registry, " ") }
