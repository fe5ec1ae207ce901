package hub

import (
	"context"

	"github.com/jmbarzee/dominion/config"
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
