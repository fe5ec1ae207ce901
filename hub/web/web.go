// Package web serves HTTP for the hub: MQTT over WebSocket at /mqtt, figures at
// /metrics, and /healthz and /readyz.
//
// It owns the addresses of [http], the limits of connections, and who may read
// what. What it serves is handed in: it knows neither the hub's loop nor how MQTT
// is spoken. Only hub imports it.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/origin"
	"github.com/jmbarzee/dominion/config"
)

// Server has the open listeners. Make it with Listen.
type Server struct {
	log *slog.Logger
	cfg config.HTTP
	// tls makes listeners of HTTPS; nil: there is none.
	tls *broker.TLS

	mu        sync.Mutex
	listeners []listener
	// waiting are default addresses that are in use by others.
	waiting []address
	// every is how often they are tried again.
	every time.Duration
}

// address is one that is to be listened at.
type address struct {
	key, at string
	secure  bool
	// optional is set for a default: the hub goes on without it.
	optional bool
	problem  string
}

type listener struct {
	net.Listener
	at broker.HTTPListener
}

// Listen opens the addresses of [http], and the one of the old key metrics. A
// default address that is taken is a problem, and is tried again by Serve; one that
// is written down is an error that names its key. own has the certificate where none is
// configured; nil: there is no HTTPS then.
func Listen(cfg config.Dominion, own broker.Identity, log *slog.Logger) (*Server, error) {
	s := &Server{log: log, cfg: cfg.HTTP, every: retryTime}
	var faults []error
	if own == nil && cfg.HTTP.CertFile == "" {
		cfg.HTTP.ListenTLS = "" // the hub says why it has no keys
	}
	if cfg.HTTP.ListenTLS != "" {
		files := broker.TLSFiles{CertFile: cfg.HTTP.CertFile, KeyFile: cfg.HTTP.KeyFile}
		if cfg.Broker.External == "" {
			files.ClientCAFile, files.RequireCertificate = cfg.Broker.ClientCAFile, cfg.Broker.RequireCertificate
		}
		var err error
		if s.tls, err = broker.LoadTLS(files, own, log); err != nil {
			return nil, fmt.Errorf("cannot listen on http.listen_tls: %w", err)
		}
	}
	for _, a := range []address{
		{key: "http.listen", at: cfg.HTTP.Listen, optional: cfg.HTTP.ListenIsDefault},
		{key: "http.listen_tls", at: cfg.HTTP.ListenTLS, secure: true, optional: cfg.HTTP.ListenTLSIsDefault},
		{key: "metrics", at: cfg.Metrics},
	} {
		if a.at == "" {
			continue
		}
		l, err := s.open(a)
		switch {
		case err == nil:
			s.listeners = append(s.listeners, l)
		case a.optional:
			a.problem = fmt.Sprintf("nothing is served at %s, the default of %s: %v; it is tried again every %v; choose another address, or write %q for none, and restart the hub", a.at, a.key, cause(err), retryTime, "")
			log.Warn(a.problem)
			s.waiting = append(s.waiting, a)
		default:
			faults = append(faults, fmt.Errorf("cannot listen on %s %s: %w; choose another address", a.key, a.at, cause(err)))
		}
	}
	if err := errors.Join(faults...); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open listens at an address.
func (s *Server) open(a address) (listener, error) {
	l, err := net.Listen("tcp", a.at)
	if err != nil {
		return listener{}, err
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	one := listener{l, broker.HTTPListener{Name: "http", Policy: origin.Policy{
		Loopback: ok && tcp.IP.IsLoopback(), Secure: a.secure,
		Allowed: s.cfg.AllowedOrigins, Proxies: s.cfg.TrustedProxies,
	}}}
	if a.secure {
		one.at.Name = "https"
		one.Listener = s.tls.Listen(l)
	}
	return one, nil
}

// cause returns the reason alone: the address stands in the message already.
func cause(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return syscall.EADDRINUSE
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Close closes the listeners; Serve does so too.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// Problems are the addresses that could not be opened, in words.
func (s *Server) Problems() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.waiting {
		all = append(all, a.problem)
	}
	return all
}

// CertificateExpires returns a function that returns until when the certificate is
// valid; nil without TLS.
func (s *Server) CertificateExpires() func() time.Time {
	if s.tls == nil {
		return nil
	}
	return s.tls.Expires
}

// SecurePort returns the port of HTTPS at an address that others reach; 0: there is none.
func (s *Server) SecurePort() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if at, ok := l.Addr().(*net.TCPAddr); ok && l.at.Policy.Secure && !at.IP.IsLoopback() {
			return at.Port
		}
	}
	return 0
}

// Addresses returns where it listens.
func (s *Server) Addresses() (all []net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	return all
}

// Handlers are what is served.
type Handlers struct {
	// MQTT returns the handler of MQTT over WebSocket of a listener.
	MQTT func(broker.HTTPListener) http.Handler
	// Login returns the role of a user; nil: there are no users.
	Login func(remote, listener, user string, password []byte) (role string, err error)
	// Metrics writes the figures.
	Metrics     func(ctx context.Context, w io.Writer) error
	MetricsType string
	// Ready returns why the hub does not serve yet; nil: it does.
	Ready func(ctx context.Context) error
	// Authority returns the certificate of the dominion's authority as PEM; nil: there is
	// none.
	Authority func() []byte
	// BrowserRoot returns the root for browsers, as PEM and as a configuration profile;
	// nil: there is none.
	BrowserRoot func() (pem, profile []byte)
	// Registry serves /v2/ to the clients of HTTPS; nil: there is none.
	Registry http.Handler
	// Problems is called with what Server.Problems returns when that has changed.
	Problems func([]string)
}

// The limits of a connection that is not a WebSocket. Those of a WebSocket are
// the broker's.
const (
	headerTime  = 5 * time.Second
	answerTime  = 10 * time.Second
	idleTime    = 30 * time.Second
	headerSize  = 16 << 10
	connections = 256
)

// retryTime is how often an address that was taken is tried again.
const retryTime = 30 * time.Second

// connKey is the key of a request's connection in its context.
type connKey struct{}

// Conn returns the connection of a request; nil: it did not come by a Server.
func Conn(r *http.Request) net.Conn {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	return c
}

// Serve answers until ctx ends; wait returns when it has ended.
func (s *Server) Serve(ctx context.Context, h Handlers) (wait func()) {
	ctx, end := context.WithCancel(ctx)
	var serving sync.WaitGroup
	limit := newLimiter(connections)
	serve := func(l listener) {
		s.log.Info("listening", "scheme", l.at.Name, "address", l.Addr().String())
		server := &http.Server{
			Handler: s.framed(h.of(l.at)), ConnState: limit.state,
			ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
			ReadHeaderTimeout: headerTime, ReadTimeout: answerTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
			MaxHeaderBytes: headerSize, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		ended := context.AfterFunc(ctx, func() { _ = server.Close() })
		serving.Go(func() {
			defer ended()
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("the HTTP listener ended", "address", l.Addr().String(), "error", err)
			}
		})
	}
	for _, l := range s.listeners {
		serve(l)
	}
	if len(s.waiting) > 0 {
		serving.Go(func() { s.retry(ctx, serve, h.Problems) })
	}
	return func() {
		end()
		serving.Wait()
	}
}

// retry tries the addresses that were taken until none is left or ctx ends.
func (s *Server) retry(ctx context.Context, serve func(listener), changed func([]string)) {
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for waiting := s.waiting; len(waiting) > 0; { // written here alone
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var taken []address
		for _, a := range waiting {
			l, err := s.open(a)
			if err != nil {
				taken = append(taken, a)
				continue
			}
			s.mu.Lock()
			s.listeners = append(s.listeners, l)
			s.mu.Unlock()
			serve(l)
		}
		if len(taken) == len(waiting) {
			continue
		}
		waiting = taken
		s.mu.Lock()
		s.waiting = taken
		s.mu.Unlock()
		if changed != nil {
			changed(s.Problems())
		}
	}
}

// framed returns the header that lists which pages may show ours in a frame.
func (s *Server) framed(next http.Handler) http.Handler {
	policy := strings.Join(append([]string{"frame-ancestors 'self'"}, s.cfg.FrameAncestors...), " ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		next.ServeHTTP(w, r)
	})
}

// redirect sends who speaks HTTP at a port of TLS to the same place by HTTPS. It
// needs no certificate.
func redirect(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	if r.Host == "" {
		http.Error(w, "this port is for HTTPS", http.StatusBadRequest)
		return
	}
	to := *r.URL
	to.Scheme, to.Host, to.User = "https", r.Host, nil
	http.Redirect(w, r, to.String(), http.StatusPermanentRedirect)
}

// of returns the handler of a listener.
func (h Handlers) of(at broker.HTTPListener) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), headerTime)
		defer cancel()
		if err := h.Ready(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if h.mayRead(at, w, r) {
			h.metrics(w, r)
		}
	})
	h.certificates(mux)
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) { h.registry(at, w, r) })
	mqtt := http.NotFoundHandler()
	if h.MQTT != nil {
		mqtt = h.MQTT(at)
	}
	mux.Handle("/mqtt", mqtt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok && broker.IsPlain(c) {
			redirect(w, r)
			return
		}
		if asksMQTT(r) { // behind a proxy or as other brokers have it: at any path
			mqtt.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// asksMQTT reports whether a request is an upgrade to MQTT over WebSocket.
func asksMQTT(r *http.Request) bool {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return false
	}
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Sec-Websocket-Protocol"), ","), ",") {
		if strings.HasPrefix(strings.TrimSpace(part), "mqtt") {
			return true
		}
	}
	return false
}

// registry serves the registry of bundles, by HTTPS alone: a password or a program travels.
func (h Handlers) registry(at broker.HTTPListener, w http.ResponseWriter, r *http.Request) {
	switch {
	case h.Registry == nil:
		http.Error(w, "the hub has no registry: see dominionctl status", http.StatusServiceUnavailable)
	case !at.Policy.Secure:
		http.Error(w, "the registry is served by HTTPS", http.StatusForbidden)
	default:
		h.Registry.ServeHTTP(w, r)
	}
}

func (h Handlers) metrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), headerTime)
	defer cancel()
	w.Header().Set("Content-Type", h.MetricsType)
	if err := h.Metrics(ctx, w); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// mayRead reports whether a request may read what a reader may, and answers it
// where it may not: with the password of a reader or an admin, or from a program
// of this machine.
func (h Handlers) mayRead(at broker.HTTPListener, w http.ResponseWriter, r *http.Request) bool {
	from := at.Policy.Inspect(r)
	user, password, given := r.BasicAuth()
	if !given && from.Local {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="dominion", charset="UTF-8"`)
	if !given || h.Login == nil {
		http.Error(w, "log in as a user of the role reader or admin; without a user only this machine reads this, by the name localhost and through no proxy", http.StatusUnauthorized)
		return false
	}
	role, err := h.Login(from.Remote, at.Name, user, []byte(password))
	switch {
	case errors.Is(err, broker.ErrBusy):
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many wrong passwords from there: wait", http.StatusTooManyRequests)
		return false
	case err != nil:
		http.Error(w, "refused user or password", http.StatusUnauthorized)
		return false
	case !slices.Contains([]string{broker.RoleReader, broker.RoleAdmin}, role):
		w.Header().Del("WWW-Authenticate")
		http.Error(w, "the role "+role+" may not read this: use a user of the role reader or admin", http.StatusForbidden)
		return false
	}
	w.Header().Del("WWW-Authenticate")
	return true
}
