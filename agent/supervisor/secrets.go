package supervisor

import (
	"fmt"
	"maps"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// openSecrets returns the variables of a start command that stand for secrets, with their
// values. A value is for the environment of a process alone: it is never logged, reported
// or written.
func (s *Supervisor) openSecrets(service string, environment, sealed map[string]string) (map[string]string, error) {
	var opened map[string]string
	for _, key := range slices.Sorted(maps.Keys(environment)) {
		name, is, err := topics.SecretName(environment[key])
		if err != nil {
			return nil, fmt.Errorf("environment: the value of %s: %w", key, err)
		}
		if !is {
			continue
		}
		text, there := sealed[name]
		if !there {
			return nil, fmt.Errorf("the secret %s is missing: `dominionctl secret set %s` sets it", name, name)
		}
		if s.o.OpenSecret == nil {
			return nil, fmt.Errorf("the secret %s cannot be opened: this domain has no key", name)
		}
		value, err := s.o.OpenSecret(service, name, text)
		if err != nil {
			return nil, err
		}
		if opened == nil {
			opened = make(map[string]string)
		}
		opened[key] = value
	}
	return opened, nil
}
