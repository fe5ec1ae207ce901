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
	log       *slog.Logger
	listeners []listener
	problems  []string
	expires   func() time.Time // nil: no TLS
}

type listener struct {
	net.Listener
	at broker.HTTPListener
}

// Listen opens the addresses of [http], and the one of the old key metrics. A
// default address that is taken is a problem and nothing more; one that is
// written down is an error that names its key.
func Listen(cfg config.Dominion, log *slog.Logger) (*Server, error) {
	s := &Server{log: log}
	files := broker.TLSFiles{CertFile: cfg.HTTP.CertFile, KeyFile: cfg.HTTP.KeyFile}
	if cfg.Broker.External == "" {
		files.ClientCAFile, files.RequireCertificate = cfg.Broker.ClientCAFile, cfg.Broker.RequireCertificate
	}
	var faults []error
	for _, at := range []struct {
		key, address string
		secure       bool
		optional     bool
	}{
		{"http.listen", cfg.HTTP.Listen, false, cfg.HTTP.ListenIsDefault},
		{"http.listen_tls", cfg.HTTP.ListenTLS, true, cfg.HTTP.ListenTLSIsDefault},
		{"metrics", cfg.Metrics, false, false},
	} {
		if at.address == "" {
			continue
		}
		l, err := net.Listen("tcp", at.address)
		switch {
		case err != nil && at.optional:
			s.problems = append(s.problems, fmt.Sprintf("nothing is served at %s, the default of %s: %v; choose another address and restart the hub, or write %q for none", at.address, at.key, cause(err), ""))
			continue
		case err != nil:
			faults = append(faults, fmt.Errorf("cannot listen on %s %s: %w; choose another address", at.key, at.address, cause(err)))
			continue
		}
		tcp, ok := l.Addr().(*net.TCPAddr)
		one := listener{l, broker.HTTPListener{Name: "http", Policy: origin.Policy{
			Loopback: ok && tcp.IP.IsLoopback(), Secure: at.secure,
			Allowed: cfg.HTTP.AllowedOrigins, Proxies: cfg.HTTP.TrustedProxies,
		}}}
		if at.secure {
			one.at.Name = "https"
			if one.Listener, s.expires, err = broker.ListenTLS(l, files, log); err != nil {
				_ = l.Close()
				faults = append(faults, fmt.Errorf("cannot listen on %s: %w", at.key, err))
				continue
			}
		}
		s.listeners = append(s.listeners, one)
	}
	if err := errors.Join(faults...); err != nil {
		for _, l := range s.listeners {
			_ = l.Close()
		}
		return nil, err
	}
	for _, p := range s.problems {
		log.Warn(p)
	}
	return s, nil
}

// cause returns the reason alone: the address stands in the message already.
func cause(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return syscall.EADDRINUSE
	case errors.As(err, &op):
		return op.Err
	}
	return err
}

// Close closes the listeners; Serve does so too.
func (s *Server) Close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// Problems are the addresses that could not be opened, in words.
func (s *Server) Problems() []string { return s.problems }

// CertificateExpires returns until when the certificate is valid; zero without
// TLS.
func (s *Server) CertificateExpires() time.Time {
	if s.expires == nil {
		return time.Time{}
	}
	return s.expires()
}

// Addresses returns where it listens.
func (s *Server) Addresses() []net.Addr {
	var all []net.Addr
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	return all
}

// Handlers are what is served.
type Handlers struct {
	// MQTT returns the handler of MQTT over WebSocket of a listener; nil: there is
	// no embedded broker.
	MQTT func(broker.HTTPListener) http.Handler
	// Login returns the role of a user; nil: there are no users.
	Login func(remote, listener, user string, password []byte) (role string, err error)
	// Metrics writes the figures.
	Metrics     func(ctx context.Context, w io.Writer) error
	MetricsType string
	// Ready returns why the hub does not serve yet; nil: it does.
	Ready func(ctx context.Context) error
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

// Serve answers until ctx ends; wait returns when it has ended.
func (s *Server) Serve(ctx context.Context, h Handlers) (wait func()) {
	var serving sync.WaitGroup
	var servers []*http.Server
	limit := newLimiter(connections)
	for _, l := range s.listeners {
		s.log.Info("listening", "scheme", l.at.Name, "address", l.Addr().String())
		server := &http.Server{
			Handler: h.of(l.at), ConnState: limit.state,
			ReadHeaderTimeout: headerTime, ReadTimeout: answerTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
			MaxHeaderBytes: headerSize, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, server)
		serving.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("the HTTP listener ended", "address", l.Addr().String(), "error", err)
			}
		})
	}
	closeAll := func() {
		for _, server := range servers {
			_ = server.Close()
		}
	}
	ended := context.AfterFunc(ctx, closeAll)
	return func() {
		if ended() {
			closeAll()
		}
		serving.Wait()
	}
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
	mqtt := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the broker of this dominion is elsewhere: connect to it", http.StatusNotFound)
	}))
	if h.MQTT != nil {
		mqtt = h.MQTT(at)
	}
	mux.Handle("/mqtt", mqtt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
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
	from := at.Policy.Judge(r)
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
