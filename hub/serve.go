package hub

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/stall"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// Service is a hub with all that is around it, as a program runs it.
type Service struct {
	Config  config.Dominion
	Version string
	Load    func() (config.Dominion, error) // reads the configuration anew
	Hangup  <-chan os.Signal                // when to do so (SIGHUP)
	Environ []string                        // that Load reads it with
	Log     *slog.Logger
	// Started is called once the broker listens; nil: nobody wants to know.
	Started func([]broker.Listener)

	bridges *bridges // of a run
}

// Serve runs until ctx ends. It starts in the order broker, hub, zeroconf and
// stops in the reverse: goodbye by mDNS, offline, broker.
func (s Service) Serve(ctx context.Context) error {
	lock, err := store.Lock(s.Config.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	state, err := store.Open(s.Config.DataDir, s.Log)
	if err != nil {
		return err
	}
	if s.Config.Broker.External != "" {
		return s.serveExternal(ctx, state)
	}
	return s.serveEmbedded(ctx, state)
}

// stopTime bounds each step of stopping.
const stopTime = 5 * time.Second

// stopBroker stops an embedded broker.
func (s Service) stopBroker(b *broker.Broker) {
	stopping, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := b.Stop(stopping); err != nil {
		s.Log.Error("the broker did not stop cleanly", "error", err)
	}
}

func (s Service) serveEmbedded(ctx context.Context, state *store.Store) error {
	o := Options{Config: s.Config, Version: s.Version, Store: state, Embedded: true, Environ: s.Environ, Machine: machineAddresses, Figures: stall.Read, Log: s.Log}
	own, err := s.openKeys(state, &o)
	if err != nil {
		return err
	}
	c := s.Config.Broker
	if own == nil && c.CertFile == "" {
		c.ListenTLS, c.ListenWSS = "", ""
	}
	b, err := broker.New(broker.Config{
		Listen: c.Listen, ListenTLS: c.ListenTLS, ListenWS: c.ListenWS, ListenWSS: c.ListenWSS, ListenUnix: c.ListenUnix,
		OptionalTLS: c.ListenTLSIsDefault, Identity: forClients(own), CertFile: c.CertFile, KeyFile: c.KeyFile, ClientCAFile: c.ClientCAFile, RequireCertificate: c.RequireCertificate,
		AllowedOrigins: s.Config.HTTP.AllowedOrigins, TrustedProxies: s.Config.HTTP.TrustedProxies,
		AllowAnonymous: c.AllowAnonymous, Users: users(c.Users), Rules: c.Rules, ReservedIDs: bridgeIDs(c.Bridges),
		Prefix: s.Config.TopicPrefix, DiscoveryPrefix: s.Config.HomeAssistant.DiscoveryPrefix, DataDir: s.Config.DataDir,
		SyncDelay: c.Persistence.Sync, Exclude: c.Persistence.Exclude, Limits: c.Limits, UserLimits: c.UserLimits, Version: s.Version,
	}, s.Log)
	if err != nil {
		return err
	}
	defer s.stopBroker(b)
	site, err := s.listenHTTP(own)
	if err != nil {
		return err
	}
	defer site.Close()
	o.Bus, o.Problems = b, site.Problems()
	if s.bridges, err = s.newBridges(b); err != nil {
		return err
	}
	as := embedded{b, s.Config.OpenHTTP(), s.bridges.views}
	o.Broker = as
	if c.CertFile != "" && (c.ListenTLS != "" || c.ListenWSS != "") {
		o.Certificate = b.CertificateExpires
	}
	if s.Config.HTTP.CertFile != "" && (o.Certificate == nil || s.Config.HTTP.CertFile != c.CertFile) {
		o.HTTPCertificate = site.CertificateExpires()
	}
	s.openControl(b, &o)
	o.TokenFiles, o.Reach = s.tokenFiles(), reachEmbedded(own, b.Listeners)
	bundles := s.openRegistry(own, site, &o)
	h := New(o)
	if err := h.Attach(b); err != nil {
		return err
	}
	if err := b.Listen(); err != nil {
		return err
	}
	defer site.Serve(ctx, s.handlers(h, b, bundles))()
	defer s.serveRegistry(bundles)()
	h.Connected()
	for _, l := range b.Listeners() {
		s.Log.Info("listening", "scheme", l.Scheme, "address", l.Addr.String())
	}
	if as.OpenToAll() {
		s.Log.Warn(config.OpenToAll)
	}
	if s.Started != nil {
		s.Started(b.Listeners())
	}
	var bridging sync.WaitGroup
	carrying, ends := context.WithCancel(ctx)
	defer func() { ends(); bridging.Wait() }()
	for _, one := range s.bridges.all {
		bridging.Go(func() { one.Run(carrying) })
	}
	ready := make(chan struct{})
	close(ready)
	s.run(ctx, h, own, ready, s.announcements(h.ID(), b.Listeners()), func(c config.Dominion) error {
		if err := b.Reload(users(c.Broker.Users), c.Broker.AllowAnonymous, c.Broker.Rules); err != nil {
			return err
		}
		b.SetUserLimits(c.Broker.UserLimits)
		if as.OpenToAll() {
			s.Log.Warn(config.OpenToAll)
		}
		return nil
	})
	return nil
}

// run runs the hub's loop with zeroconf beside it. Zeroconf ends first. The
// hub is announced once ready is closed: it may have to wait for its broker.
func (s Service) run(ctx context.Context, h *Hub, own *keys.Keys, ready <-chan struct{}, announce []zeroconf.Service, reload func(config.Dominion) error) {
	var around, loop sync.WaitGroup
	ends, cancel := context.WithCancel(context.Background())
	alone := len(announce) == 0
	h.fleet.SetAlone(alone)
	loop.Go(func() { h.Run(ends) })
	around.Go(func() { s.reloads(ctx, h, reload) })
	if own != nil {
		around.Go(func() { own.Run(ctx, h.CertificateRenewed) })
	}
	if alone {
		s.Log.Info("only domains of this machine can join: no other reaches a listener for MQTT; listen = \":1883\" in [broker] lets others in")
	}
	if s.Config.Zeroconf.Enabled && len(announce) > 0 {
		around.Go(func() {
			select {
			case <-ctx.Done():
				return
			case <-ready:
			}
			if err := zeroconf.Announce(ctx, s.Config.Zeroconf.Interfaces, s.Log, announce...); err != nil {
				s.Log.Error("cannot be found by zeroconf", "error", err)
			}
		})
		hubs := slices.DeleteFunc(slices.Clone(announce), func(a zeroconf.Service) bool { return a.Type != zeroconf.TypeDominion })
		around.Go(func() {
			select {
			case <-ctx.Done():
				return
			case <-ready:
			}
			zeroconf.WatchConflicts(ctx, s.Config.Zeroconf.Interfaces, hubs, func(found []zeroconf.Found) { h.ConflictsFound(conflictsOf(found)) })
		})
	}
	if s.Config.Zeroconf.Enabled {
		around.Go(func() {
			zeroconf.Watch(ctx, s.Config.Zeroconf.Interfaces, zeroconf.TypeDomain, func(found []zeroconf.Found) {
				h.LonelyFound(lonely(found))
			})
		})
	}
	<-ctx.Done()
	around.Wait()
	cancel()
	loop.Wait()
}

func users(all []config.User) []broker.User {
	var us []broker.User
	for _, u := range all {
		us = append(us, broker.User(u))
	}
	return us
}

// announcements returns what zeroconf announces of the listeners that others can
// reach: _mqtt._tcp for any client, where it needs no TLS, and _dominion._tcp
// for agents.
func (s Service) announcements(id string, listeners []broker.Listener) []zeroconf.Service {
	var all []zeroconf.Service
	for _, l := range listeners {
		if l.Scheme != "mqtt" && l.Scheme != "mqtts" {
			continue
		}
		bound, err := netip.ParseAddrPort(l.Addr.String())
		if err != nil || bound.Addr().IsLoopback() {
			continue
		}
		service := zeroconf.Service{Instance: s.Config.Name, Port: int(bound.Port()), Addr: bound.Addr().Unmap()}
		secure := l.Scheme == "mqtts"
		if secure {
			service.Instance += "-tls"
		} else {
			any := service
			any.Type = zeroconf.TypeMQTT
			all = append(all, any)
		}
		service.Type, service.Text = zeroconf.TypeDominion, s.text(id, secure)
		all = append(all, service)
	}
	return all
}

func (s Service) text(id string, secure bool) map[string]string {
	text := map[string]string{
		"id": id, "name": s.Config.Name, "version": s.Version,
		"protocol": topics.Protocol, "prefix": s.Config.TopicPrefix, "tls": "0",
	}
	if secure {
		text["tls"] = "1"
	}
	return text
}

// machineAddresses returns the addresses of this machine.
func machineAddresses() (all []string) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range interfaces {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr().String())
		}
	}
	return all
}

// announceExternal returns the announcement of an external broker. One on this machine's
// loopback is reached by others at this machine's addresses.
func (s Service) announceExternal(id string) []zeroconf.Service {
	var others []string
	all := config.Addresses(s.Config.Broker.External)
	for i, a := range all {
		if at := brokerText(a); at != "" && i > 0 {
			others = append(others, at)
		}
	}
	u, err := url.Parse(all[0])
	if err != nil {
		return nil
	}
	secure := u.Scheme == "mqtts"
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "1883", true: "8883"}[secure]
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil
	}
	text := s.text(id, secure)
	if at := brokerText(all[0]); at != "" {
		text["broker"] = at
	}
	// An agent that does not know this key uses the first. A text has 255 bytes.
	if joined := strings.Join(others, ","); joined != "" && len("brokers=")+len(joined) <= 255 {
		text["brokers"] = joined
	}
	return []zeroconf.Service{{Type: zeroconf.TypeDominion, Instance: s.Config.Name, Port: number, Text: text, Addr: netip.IPv4Unspecified()}}
}

// brokerText returns the URL of an external broker as it is announced to agents, without
// the user; "" where it is on this machine's loopback.
func brokerText(external string) string {
	u, err := url.Parse(external)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "1883", true: "8883"}[u.Scheme == "mqtts"]
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
		return ""
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port)
}

func lonely(found []zeroconf.Found) []Lonely {
	var all []Lonely
	for _, f := range found {
		l := Lonely{Name: f.Text["name"], ID: f.Text["id"], Version: f.Text["version"]}
		if d := f.Text["dominion"]; len(d) <= 40 && topics.ValidName(f.Text["dominion_name"]) {
			l.Dominion, l.DominionName = d, f.Text["dominion_name"]
		}
		if len(f.Addresses) > 0 {
			l.Address = f.Addresses[0].String()
		}
		all = append(all, l)
	}
	return all
}
