package link

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/config"
)

// A machine that is not adopted shows the certificate and the user of its configuration where
// the hub is configured or verified by cafile, and neither to a hub that only an announcement names.
func TestCredentialsOfAnApplicant(t *testing.T) {
	const hub = "mqtts://192.168.0.1:8883"
	for _, c := range []struct {
		name                   string
		config                 config.Domain
		configured             bool
		certificate, user, any string
	}{
		{"nothing", config.Domain{}, true, "", "", "any"},
		{"a certificate", config.Domain{CertFile: "c", KeyFile: "k"}, true, "c", "", ""},
		{"a certificate and a cafile", config.Domain{CertFile: "c", KeyFile: "k", CAFile: "a"}, false, "c", "", ""},
		{"a certificate, announced", config.Domain{CertFile: "c", KeyFile: "k"}, false, "", "", "any"},
		{"a user", config.Domain{User: "pi"}, true, "", "pi", ""},
		{"a user with a certificate", config.Domain{User: "pi", CertFile: "c", KeyFile: "k"}, true, "c", "pi", ""},
		{"a user, announced", config.Domain{User: "pi"}, false, "", "", "any"},
	} {
		var got client.Options
		l := New(Options{Config: c.config, Log: slog.New(slog.DiscardHandler), Connect: func(_ context.Context, o client.Options) (Conn, error) {
			got = o
			return nil, context.Canceled
		}})
		s := &asker{asking: &asking{l: l}, target: target{urls: []string{hub}, configured: c.configured}}
		if _, err := s.connect(t.Context(), hub, "answers"); err == nil {
			t.Fatal(c.name, "is connected")
		}
		verified := got.TLS == nil || !got.TLS.InsecureSkipVerify
		if got.CertFile != c.certificate || got.User != c.user || (got.CertFile == "") != (got.KeyFile == "") || verified != (c.any == "") {
			t.Errorf("%s: certificate %q, user %q, verified %v", c.name, got.CertFile, got.User, verified)
		}
	}
}
