package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// ParseDefinitions reads definitions at run time: a text with [services.NAME] and nothing else,
// as apply takes it. others are the definitions beside them, and prefix is topic_prefix. It
// returns the definitions of the text, by name. Of their bundles only the version is known.
//
// It opens no file, and no environment counts.
func ParseDefinitions(text, prefix string, others []services.Definition) ([]services.Definition, error) {
	if len(text) > topics.MaxDefinitions {
		return nil, fmt.Errorf("the definitions are longer than %d bytes", topics.MaxDefinitions)
	}
	l, root := openText("", text, "", nil)
	l.atRunTime = true
	var defs []services.Definition
	if root != nil {
		defs = root.sub("services").services(prefix, others...)
		root.close()
	}
	var faults Faults
	if err := l.finish(); errors.As(err, &faults) {
		return nil, faults.brief()
	}
	if len(defs) == 0 {
		return nil, errors.New("there is no definition: write [services.NAME] and its keys below")
	}
	return defs, nil
}

// StoredDefinition reads the definition of one service that ParseDefinitions has accepted
// before. It is not judged again beside others: a service that runs does not end because
// another one has changed.
func StoredDefinition(text, name string) (services.Definition, error) {
	l, root := openText("", text, "", nil)
	l.atRunTime = true
	if root != nil {
		all := root.sub("services")
		if !all.has(name) {
			return services.Definition{}, fmt.Errorf("the definition of %s is not in its text", name)
		}
		d := all.sub(name).service(name, serviceSettings())
		return d, l.finish()
	}
	return services.Definition{}, l.finish()
}

// SplitDefinitions returns the text of each service in a text that ParseDefinitions accepts. A
// text with one service stays as it is.
func SplitDefinitions(text string) (map[string]string, error) {
	var file struct {
		Services map[string]map[string]any `toml:"services"`
	}
	if _, err := toml.Decode(text, &file); err != nil {
		return nil, fmt.Errorf("cannot read the definitions: %w", err)
	}
	all := make(map[string]string, len(file.Services))
	for name, table := range file.Services {
		if len(file.Services) == 1 {
			all[name] = text
			break
		}
		var out strings.Builder
		if err := toml.NewEncoder(&out).Encode(map[string]any{"services": map[string]any{name: table}}); err != nil {
			return nil, fmt.Errorf("cannot write the definition of %s: %w", name, err)
		}
		all[name] = out.String()
	}
	return all, nil
}
