package hub

import (
	"context"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// reloads reads the configuration again at each hangup, until ctx ends. access
// takes over what the broker has of it.
func (s Service) reloads(ctx context.Context, h *Hub, access func(config.Dominion) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Hangup:
		}
		cfg, err := s.Load()
		if err == nil {
			err = access(cfg)
		}
		if err == nil {
			for _, key := range s.Config.ChangedByRestart(cfg) {
				s.Log.Warn("changed in the configuration, but taken over by a restart only", "key", key)
			}
		}
		h.Reload(cfg, err)
	}
}

// reload takes a new configuration over. Services that are gone from it are
// stopped in order before their topics are cleared.
func (h *Hub) reload(cfg config.Dominion, err error) {
	if err != nil {
		h.events.Add(topics.Event{Type: topics.ConfigRefused, Message: h.views.ownProblems.SetReload(err)})
		h.changed.TouchAll()
		return
	}
	h.defs.Reload(cfg.Services)
	h.cfg.TakeOver(cfg)
	h.fleet.Configure(h.cfg.Timing.LostAfter.Duration(), h.cfg.Timing.FailoverAfter.Duration())
	h.configureLeases()
	h.views.ownProblems.SetReload(nil)
	h.changed.TouchAll()
	h.followFigures()
	h.events.Add(topics.Event{Type: topics.ConfigReloaded, Message: "the configuration was reloaded: " + count(len(cfg.Services), "service")})
}
