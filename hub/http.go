package hub

import (
	"context"
	"errors"
	"io"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/metrics"
	"github.com/jmbarzee/dominion/hub/registry"
	"github.com/jmbarzee/dominion/hub/web"
	"github.com/jmbarzee/dominion/identity"
)

// listenHTTP opens the addresses of HTTP. Old keys are named in the log.
func (s Service) listenHTTP(own *keys.Keys) (*web.Server, error) {
	for _, old := range []struct{ key, value, now string }{
		{"metrics", s.Config.Metrics, "[http] listen"},
		{"broker.listen_ws", s.Config.Broker.ListenWS, "[http] listen"},
		{"broker.listen_wss", s.Config.Broker.ListenWSS, "[http] listen_tls"},
	} {
		if old.value != "" {
			s.Log.Warn("this key works for one more version: write its value into "+old.now, "key", old.key, "value", old.value)
		}
	}
	return web.Listen(s.Config, forBrowsers(own), s.Log)
}

// handlers are what HTTP serves. b is nil where the broker is not ours.
func (s Service) handlers(h *Hub, b *broker.Broker, r *registry.Registry) web.Handlers {
	all := web.Handlers{
		MetricsType: metrics.ContentType,
		Metrics: func(ctx context.Context, w io.Writer) error {
			f, err := h.figures(ctx)
			if err != nil {
				return err
			}
			if b != nil {
				f.families = append(append(f.families, ofBroker(b)...), s.bridges.figures()...)
			}
			_ = metrics.Write(w, f.families) // an error means that the client is gone
			return nil
		},
		Ready:    func(ctx context.Context) error { return h.readiness(ctx, b) },
		Problems: h.HTTPProblems,
	}
	if k := h.keys; k != nil {
		all.Authority = func() []byte { return identity.EncodeCertificates(k.Authority()) }
		all.BrowserRoot = k.BrowserRoot
	}
	if r != nil {
		all.Registry = r.Handler(h.registryClient(b))
	}
	if b != nil {
		all.MQTT, all.Login = b.WebSocket, b.Login
	}
	return all
}

// readiness returns why the hub does not serve yet; b is nil where the broker is
// not ours.
func (h *Hub) readiness(ctx context.Context, b *broker.Broker) error {
	f, err := h.figures(ctx)
	switch {
	case err != nil:
		return err
	case !f.hub.Ready:
		return errors.New("the hub is not ready: it waits for the domains that it knows")
	case b != nil && len(b.Listeners()) == 0:
		return errors.New("the broker does not listen")
	case b != nil && b.StoreFull():
		return errors.New("the broker's store takes no messages: is the disk full?")
	}
	return nil
}
