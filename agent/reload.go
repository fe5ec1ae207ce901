package agent

import (
	"reflect"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/config"
)

// reload is a configuration that was read anew.
type reload struct {
	config config.Domain
	err    error
}

// reload takes over what can change while the agent runs, and says what
// cannot.
func (l *loop) reload(c config.Domain, err error) {
	if err != nil {
		l.log.Error("configuration refused, the old one stays in force", "error", err)
		return
	}
	later := afterRestart(l.config, c)
	l.config.Traits, l.config.Address, l.config.StopServicesOnExit = c.Traits, c.Address, c.StopServicesOnExit
	l.poll(time.Now())
	l.log.Info("configuration read anew", "file", c.File)
	for _, key := range later {
		l.log.Warn("changed in the configuration, but taken over by a restart of the agent only (it stops no service)", "key", key)
	}
}

// afterRestart names the keys that differ and that a reload leaves as they were.
func afterRestart(was, is config.Domain) (keys []string) {
	for _, key := range []struct {
		name    string
		changed bool
	}{
		{"name", was.Name != is.Name},
		{"traits_from", !reflect.DeepEqual(was.TraitsFrom, is.TraitsFrom)},
		{"services_dir", was.ServicesDir != is.ServicesDir},
		{"data_dir", was.DataDir != is.DataDir},
		{"hub", was.Hub != is.Hub},
		{"user", was.User != is.User},
		{"password_file", was.PasswordFile != is.PasswordFile},
		{"cafile", was.CAFile != is.CAFile},
		{"cert_file", was.CertFile != is.CertFile},
		{"key_file", was.KeyFile != is.KeyFile},
		{"dominion", was.Dominion != is.Dominion},
		{"topic_prefix", was.TopicPrefix != is.TopicPrefix},
		{"accept", was.Accept != is.Accept},
		{"run_as", was.RunAs != is.RunAs},
		{"allow_root", !slices.Equal(was.AllowRoot, is.AllowRoot)},
		{"zeroconf", !reflect.DeepEqual(was.Zeroconf, is.Zeroconf)},
	} {
		if key.changed {
			keys = append(keys, key.name)
		}
	}
	return keys
}
