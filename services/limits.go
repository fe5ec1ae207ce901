package services

import (
	"fmt"

	"github.com/jmbarzee/dominion/topics"
)

// What a set of definitions may hold. Each limit is far above what a home has,
// and checked before anything is compared: the time that definitions take
// follows from their number and no product of it.
const (
	MaxServices     = topics.MaxServices     // definitions
	MaxDependencies = topics.MaxDependencies // of one service
	MaxTraits       = 64                     // that one service asks for
	MaxDomains      = 1024                   // that one service is pinned to
	MaxEnvironment  = topics.MaxVariables    // variables of one service
	MaxVersion      = 128                    // bytes of a version
	maxRange        = 256                    // bytes of a range of versions
	maxFaults       = 1000                   // that are reported
	maxCycles       = 10                     // that are reported
)

// limitFaults returns the faults of lists that are longer than allowed. Their content
// is not validated then.
func (d Definition) limitFaults() []Fault {
	var faults []Fault
	for _, list := range []struct {
		key       string
		has, most int
	}{
		{"dependencies", len(d.Dependencies), MaxDependencies},
		{"traits", len(d.Traits), MaxTraits},
		{"domains", len(d.Domains), MaxDomains},
		{"environment", len(d.Environment), MaxEnvironment},
	} {
		if list.has > list.most {
			faults = append(faults, Fault{d.Name, list.key, fmt.Sprintf("%d entries are more than %d", list.has, list.most), "take some out"})
		}
	}
	return faults
}
