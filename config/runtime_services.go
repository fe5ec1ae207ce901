package config

import (
	"errors"
	"fmt"

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
