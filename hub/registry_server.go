package hub

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/registry"
	"github.com/jmbarzee/dominion/hub/web"
)

// The registry in data_dir, and its socket beside the control socket, by which programs of the
// hub's own machine reach it.
const (
	registryDirectory = "registry"
	registrySocket    = "registry"
)

// registryReserve is how much of the disk the registry leaves to others, in bytes.
const registryReserve = 100 << 20

// openRegistry opens the registry. A hub without one goes on: nothing can be deployed until the
// problem is mended.
func (s Service) openRegistry(own *keys.Keys, site *web.Server, o *Options) *registry.Registry {
	if own == nil {
		return nil // the hub says why it has no keys
	}
	r, err := registry.Open(registry.Options{
		Dir: filepath.Join(s.Config.DataDir, registryDirectory), Max: s.Config.Registry.Max, Reserve: registryReserve, Log: s.Log,
	})
	if err != nil {
		s.Log.Error("nothing can be deployed", "error", err)
		return nil
	}
	o.Bundles, o.Registry = registryBundles{r}, func() []string { return registryURLs(own, site) }
	return r
}

// serveRegistry serves the registry to whoever may open the control socket, until the function
// that it returns is called.
func (s Service) serveRegistry(r *registry.Registry) (stop func()) {
	if r == nil {
		return func() {}
	}
	path := filepath.Join(filepath.Dir(s.controlPath()), registrySocket)
	if filepath.Dir(path) == s.Config.DataDir {
		path += ".socket" // the registry itself has the name
	}
	l, err := broker.ListenForAdmins(path)
	if err != nil {
		s.Log.Error("the registry has no socket: push by HTTPS as an admin", "error", err)
		return func() {}
	}
	server := &http.Server{
		Handler:           r.Handler(func(*http.Request) (registry.Client, error) { return registry.Client{Admin: true}, nil }),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error("the socket of the registry ended", "error", err)
		}
	}()
	return func() {
		_ = server.Close()
		<-ended
		_ = os.Remove(path)
	}
}

// registryClient returns who sends a request to the registry at HTTPS: by the certificate of
// the connection, or by a password. b is nil where the broker is not ours.
func (h *Hub) registryClient(b *broker.Broker) func(*http.Request) (registry.Client, error) {
	return func(q *http.Request) (registry.Client, error) {
		if certified, ok := web.Conn(q).(interface{ Certificate() (name, use string) }); ok {
			switch name, use := certified.Certificate(); use {
			case broker.UseDomain:
				return registry.Client{Domain: name}, nil
			case broker.UseUser:
				return registry.Client{Admin: h.userRole(name) == broker.RoleAdmin}, nil
			}
		}
		user, password, given := q.BasicAuth()
		if !given || b == nil {
			return registry.Client{}, errors.New("log in as a user of the role admin, or show a certificate of the dominion")
		}
		role, err := b.Login(q.RemoteAddr, "https", user, []byte(password))
		if err != nil {
			return registry.Client{}, errors.New("refused user or password")
		}
		return registry.Client{Admin: role == broker.RoleAdmin}, nil
	}
}

// updateRegistry publishes where the registry is.
func (h *Hub) updateRegistry() {
	if h.registryURLs != nil {
		h.views.presence.SetRegistry(h.registryURLs())
	}
}

// registryURLs returns where domains reach the registry; none where HTTPS is not served to
// others.
func registryURLs(own *keys.Keys, site *web.Server) []string {
	port := site.SecurePort()
	if own == nil || port == 0 {
		return nil
	}
	var all []string
	for _, host := range hostsOf(own) {
		all = append(all, "https://"+net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return all
}
