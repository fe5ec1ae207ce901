package hub

import (
	"context"
	"reflect"

	"github.com/jmbarzee/dominion/config"
)

// reloads reads the configuration anew at each hangup, until ctx ends. access
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
			for _, key := range afterRestart(s.Config, cfg) {
				s.Log.Warn("changed in the configuration, but taken over by a restart only", "key", key)
			}
		}
		h.Reload(cfg, err)
	}
}

// afterRestart names the keys that differ and that a reload leaves as they were.
func afterRestart(was, is config.Dominion) (keys []string) {
	for _, key := range []struct {
		name    string
		changed bool
	}{
		{"name", was.Name != is.Name},
		{"data_dir", was.DataDir != is.DataDir},
		{"metrics", was.Metrics != is.Metrics},
		{"topic_prefix", was.TopicPrefix != is.TopicPrefix},
		{"broker.listen", was.Broker.Listen != is.Broker.Listen},
		{"broker.listen_tls", was.Broker.ListenTLS != is.Broker.ListenTLS},
		{"broker.listen_ws", was.Broker.ListenWS != is.Broker.ListenWS},
		{"broker.listen_wss", was.Broker.ListenWSS != is.Broker.ListenWSS},
		{"broker.listen_unix", was.Broker.ListenUnix != is.Broker.ListenUnix},
		{"broker.cert_file", was.Broker.CertFile != is.Broker.CertFile},
		{"broker.key_file", was.Broker.KeyFile != is.Broker.KeyFile},
		{"broker.client_ca_file", was.Broker.ClientCAFile != is.Broker.ClientCAFile},
		{"broker.require_certificate", was.Broker.RequireCertificate != is.Broker.RequireCertificate},
		{"broker.bridges", !reflect.DeepEqual(was.Broker.Bridges, is.Broker.Bridges)},
		{"broker.external", was.Broker.External != is.Broker.External},
		{"broker.password_file", was.Broker.PasswordFile != is.Broker.PasswordFile},
		{"broker.cafile", was.Broker.CAFile != is.Broker.CAFile},
		{"broker.persistence", !reflect.DeepEqual(was.Broker.Persistence, is.Broker.Persistence)},
		{"broker.limits", was.Broker.Limits != is.Broker.Limits},
		{"http", !reflect.DeepEqual(was.HTTP, is.HTTP)},
		{"zeroconf", !reflect.DeepEqual(was.Zeroconf, is.Zeroconf)},
		{"homeassistant", was.HomeAssistant != is.HomeAssistant},
		{"devices", was.Devices != is.Devices},
	} {
		if key.changed {
			keys = append(keys, key.name)
		}
	}
	return keys
}
