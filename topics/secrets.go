package topics

import (
	"fmt"
	"slices"
	"strings"
)

// MaxSecret is the longest value of a secret, in bytes.
const MaxSecret = 32 << 10

// secretPrefix begins the value of a variable that stands for a secret: "secret:NAME".
const secretPrefix = "secret:"

// SecretName returns the name of the secret that the value of a variable in a start
// command stands for. is is false for a value that is not a reference.
func SecretName(value string) (name string, is bool, err error) {
	name, is = strings.CutPrefix(value, secretPrefix)
	if is && !ValidID(name) {
		return "", true, fmt.Errorf("%.80q is not a valid name of a secret: use letters, digits, . _ and -, 64 characters at most", name)
	}
	return name, is, nil
}

// SecretNames returns the names of the secrets in an environment, sorted; nil: there are
// none.
func SecretNames(environment map[string]string) (names []string) {
	for _, value := range environment {
		if name, is, err := SecretName(value); is && err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// SecretView is what is listed of a secret: never its value.
type SecretView struct {
	Name     string   `json:"name" type:"id" doc:"of the secret"`
	Missing  bool     `json:"missing,omitempty" doc:"a service uses it, and it has no value"`
	Changed  Time     `json:"changed,omitzero" doc:"when its value was set last"`
	Services []string `json:"services" type:"name" doc:"that use it"`
	Domains  []string `json:"domains" type:"line" doc:"that have it or have had it, by name; by id where the name is not known any more"`
}

// Forgotten is the answer to forget.
type Forgotten struct {
	Secrets []string `json:"secrets" type:"id" doc:"that the domain has had: set new values"`
}
