package agent

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/jmbarzee/dominion/agent/credentials"
	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/agent/traits"
	"github.com/jmbarzee/dominion/identity"
)

// A service is told of a certificate where its DOMINION_URL is encrypted and the hub issues
// them, whether the files are there already or not: no start waits for the hub.
func TestEnvironmentNamesTheCertificate(t *testing.T) {
	dir := t.TempDir()
	issued, err := credentials.Open(credentials.Options{
		DataDir: dir, Domain: "pi", Verifier: func() *identity.Verifier { return nil }, Files: foreign.New(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		hub       string
		certifies bool
		issued    *credentials.Credentials
		want      bool
	}{
		{"mqtts://192.0.2.1:8883", true, issued, true},
		{"mqtts://192.0.2.1:8883", false, issued, false}, // an external broker, or an older hub
		{"mqtt://127.0.0.1:1883", true, issued, false},   // the hub's own machine
		{"mqtts://192.0.2.1:8883", true, nil, false},     // a domain without a key
		{"", true, issued, false},
	} {
		l := &loop{
			store:     &store{memory: memory{Hub: c.hub, CertifiesServices: c.certifies}},
			inventory: facts.NewInventory(&machineFacts{}, 0, slog.New(slog.DiscardHandler)), traits: traits.New(nil, nil, nil, nil, slog.New(slog.DiscardHandler)),
			credentials: c.issued,
		}
		e := l.environment("web")
		for name, file := range map[string]string{"DOMINION_CA_FILE": "ca.pem", "DOMINION_CERT_FILE": "cert.pem", "DOMINION_KEY_FILE": "key.pem"} {
			want := ""
			if c.want {
				want = filepath.Join(dir, "credentials", "web", file)
			}
			if got, set := e[name]; got != want || set != c.want {
				t.Errorf("hub %q, issues %v: %s is %q, want %q", c.hub, c.certifies, name, got, want)
			}
		}
	}
}
