package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// what of a dominion.toml decides over its services, and holds no password.
var ofServices = []string{"topic_prefix", "timing", "services"}

// ServicesText checks a dominion.toml as CheckDominion does, without an
// environment, and returns what a hub has to know of it to tell what its
// services would be, as TOML: ParseServices reads it. Users and passwords stay
// where they are. An error is of type Faults.
func ServicesText(file string) (string, error) {
	if _, err := loadDominion(file, nil, thisHost()); err != nil {
		return "", err
	}
	text, err := read(file)
	if err != nil {
		return "", Faults{unreadable(file, err)}
	}
	all, fault := decode(file, text)
	if fault != nil {
		return "", Faults{*fault}
	}
	some := make(map[string]any)
	for _, key := range ofServices {
		if v, set := all[key]; set {
			some[key] = v
		}
	}
	var out strings.Builder
	if err := toml.NewEncoder(&out).Encode(some); err != nil {
		return "", Faults{{File: file, Message: fmt.Sprintf("cannot write its services: %v", err), Hint: "dominion -check says more"}}
	}
	if out.Len() > topics.MaxConfig {
		return "", Faults{{File: file, Message: fmt.Sprintf("its services are longer than the %d bytes that a hub takes", topics.MaxConfig), Hint: "reload the hub with it to see"}}
	}
	return out.String(), nil
}

// ParseServices reads the services of a text that ServicesText wrote, as a hub
// with this environment would. It opens no file.
func ParseServices(text string, environ []string) ([]services.Definition, error) {
	if len(text) > topics.MaxConfig {
		return nil, fmt.Errorf("the configuration is longer than %d bytes", topics.MaxConfig)
	}
	var ours []string
	for _, v := range environ {
		for _, key := range ofServices {
			if strings.HasPrefix(v, dominionVariables+"_"+strings.ToUpper(key)) {
				ours = append(ours, v)
			}
		}
	}
	l, root := openText("", text, dominionVariables, ours)
	d := defaults()
	if root != nil {
		root.dominion(&d)
	}
	var faults Faults
	if err := l.finish(); errors.As(err, &faults) {
		return nil, fmt.Errorf("the configuration is refused: %w", faults.brief())
	}
	return d.Services, nil
}

// brief returns the first faults, each cut short: enough to mend a text, and no
// more than that of a text that is nothing else.
func (f Faults) brief() Faults {
	const most, longest = 10, 400
	few := slices.Clone(f[:min(len(f), most)])
	for i := range few {
		few[i].Key, few[i].Message, few[i].Hint = cut(few[i].Key, 200), cut(few[i].Message, longest), cut(few[i].Hint, longest)
	}
	return few
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
