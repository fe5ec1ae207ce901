package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

const hunter = "correct-horse-battery"

// unseal opens "sealed" for web and the secret pw alone.
func unseal(o *Options) {
	o.OpenSecret = func(service, name, sealed string) (string, error) {
		if service != "web" || name != "pw" || sealed != "sealed" {
			return "", errors.New("cannot open secret " + name + " of service " + service + ": it is sealed for something else")
		}
		return hunter, nil
	}
}

// withSecret returns a spec with a secret.
func withSecret(revision, sealed string) topics.Spec {
	s := spec(revision)
	s.Environment = map[string]string{"MQTT_PASSWORD": "secret:pw", "COLOUR": "blue"}
	if sealed != "" {
		s.Secrets = map[string]string{"pw": sealed}
	}
	return s
}

// A secret is in the environment of the process, and in nothing that is written, logged or
// reported.
func TestSecretIsInTheEnvironmentAlone(t *testing.T) {
	var env []string
	play(t, func(t *testing.T, h *host, a *actor) {
		a.onStart = func(c Command) { env = c.Env }
		h.apply(one("web", withSecret("r1", "sealed")))
		h.pass(2 * time.Second)
		if !slices.Contains(env, "MQTT_PASSWORD="+hunter) || !slices.Contains(env, "COLOUR=blue") {
			t.Errorf("%q: %+v", env, h.get("web"))
		}
		a.end(h.get("web").PID, Exit{Code: 1, Known: true})
		h.pass(time.Minute)
		if strings.Contains(h.log.String()+strings.Join(h.reports, "\n")+string(topics.Encode(h.s.Instances())), hunter) {
			t.Error("log, events or status show it")
		}
		err := filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if strings.Contains(string(b), hunter) {
				t.Errorf("%s shows it", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}, unseal)
}

func TestSecretIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		sealed string
		change func(*Options)
		want   string
	}{
		"it did not come":     {"", unseal, "`dominionctl secret set pw`"},
		"for another machine": {"other", unseal, "sealed for something else"},
		"without a key":       {"sealed", func(*Options) {}, "this domain has no key"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, h *host, a *actor) {
				h.apply(one("web", withSecret("r1", c.sealed)))
				h.pass(2 * time.Second)
				if i := h.get("web"); len(a.starts) != 0 || !strings.Contains(i.Message, c.want) {
					t.Errorf("%d starts: %+v", len(a.starts), i)
				}
			}, c.change)
		})
	}
}

// What runs is not stopped for a revision whose secret is missing.
func TestMissingSecretStopsNothing(t *testing.T) {
	play(t, func(t *testing.T, h *host, a *actor) {
		h.apply(one("web", withSecret("r1", "sealed")))
		h.pass(2 * time.Second)
		h.apply(one("web", withSecret("r2", "")))
		h.pass(2 * time.Second)
		if i := h.get("web"); len(a.starts) != 1 || i.State != topics.Running || !strings.Contains(i.Message, "secret set pw") {
			t.Errorf("%d starts: %+v", len(a.starts), i)
		}
	}, unseal)
}

func TestSecretNameIsChecked(t *testing.T) {
	s := spec("r1")
	s.Environment = map[string]string{"A": "secret:a b"}
	if why := refusal("web", s); !strings.Contains(why, "not a valid name of a secret") {
		t.Error(why)
	}
}
