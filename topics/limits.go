package topics

import "fmt"

// What one payload may hold. Each limit is far above what a home has: the time
// and memory of a reader follow from the number of its entries, never from a
// product of it.
const (
	// MaxPayload is the size in bytes beyond which a payload is refused unread.
	MaxPayload = 1 << 20
	// MaxConfig bounds HubRequest.Config and HubRequest.KeyList, in bytes.
	MaxConfig = 1 << 18
	// MaxLast bounds HubRequest.Last, in bytes: in JSON it takes more, and must fit.
	MaxLast = 1 << 19
	// MaxValues is the number of values (members of objects, elements of lists)
	// beyond which a payload is refused unread.
	MaxValues = 1 << 16
	// MaxServices bounds the services of a dominion, and so the instances, the
	// catalog and the start command of a domain.
	MaxServices = 4096
	// MaxTraits bounds the traits of a domain.
	MaxTraits = 256
	// MaxAddresses bounds the addresses of a domain.
	MaxAddresses = 256
	// MaxVariables bounds the environment of a service.
	MaxVariables = 1024
	// MaxDependencies bounds the dependencies of a service.
	MaxDependencies = 256
	// MaxServiceKeys bounds HubRequest.ServiceKeys.
	MaxServiceKeys = 64
	// MaxText bounds each text of a request but its config, in bytes: what MQTT
	// allows for a topic.
	MaxText = 65535
)

// maxSeconds is about three years: longer durations are mistakes, and would
// overflow when added up.
const maxSeconds = 1e8

// checkSize refuses a payload before it is read: one of many small values takes
// many times its size in memory.
func checkSize(payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%d bytes are more than %d", len(payload), MaxPayload)
	}
	if len(payload) <= MaxValues { // each value has a byte of its own
		return nil
	}
	values, text := 0, false
	for i := 0; i < len(payload); i++ {
		switch c := payload[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case !text && (c == ',' || c == '[' || c == '{'):
			values++
		}
	}
	if values > MaxValues {
		return fmt.Errorf("it has more than %d values", MaxValues)
	}
	return nil
}

// bounded is a payload with lists or texts whose length is bounded.
type bounded interface {
	// checkLengths returns an error that names the first field that is longer
	// than it may be.
	checkLengths() error
}

// length is the length of a field, and the most that it may be.
type length struct {
	field     string
	has, most int
}

func check(lengths ...length) error {
	for _, l := range lengths {
		if l.has > l.most {
			return fmt.Errorf("field %s: its length of %d is more than %d", l.field, l.has, l.most)
		}
	}
	return nil
}

func (d *Domain) checkLengths() error {
	return check(
		length{"services", len(d.Services), MaxServices},
		length{"catalog", len(d.Catalog), MaxServices},
		length{"traits", len(d.Traits), MaxTraits},
		length{"addresses", len(d.Addresses), MaxAddresses},
	)
}

func (m *Metrics) checkLengths() error {
	return check(length{"services", len(m.Services), MaxServices})
}

func (c *StartCommand) checkLengths() error {
	if err := check(length{"services", len(c.Services), MaxServices}); err != nil {
		return err
	}
	for _, s := range c.Services {
		if err := check(
			length{"services.environment", len(s.Environment), MaxVariables},
			length{"services.secrets", len(s.Secrets), MaxVariables},
			length{"services.dependencies", len(s.Dependencies), MaxDependencies},
		); err != nil {
			return err
		}
	}
	return nil
}

// checkLengths leaves config out: who reads it says more of it.
func (a *HubRequest) checkLengths() error {
	return check(
		length{"transaction", len(a.Transaction), MaxText},
		length{"service", len(a.Service), MaxText},
		length{"domain", len(a.Domain), MaxText},
		length{"user", len(a.User), MaxText},
		length{"client", len(a.Client), MaxText},
		length{"action", len(a.Action), MaxText},
		length{"role", len(a.Role), MaxText},
		length{"password_hash", len(a.Hash), MaxText},
		length{"certificate_request", len(a.Request), MaxText},
		length{"key", len(a.Key), MaxText},
		length{"authority", len(a.Authority), MaxText},
		length{"key_list", len(a.KeyList), MaxConfig},
		length{"secret", len(a.Secret), MaxText},
		length{"value", len(a.Value), MaxSecret},
		length{"toml", len(a.TOML), MaxDefinitions},
		length{"base", len(a.Base), MaxText},
		length{"version", len(a.Version), MaxText},
		length{"topic", len(a.Topic), MaxText},
		length{"without", len(a.Without), MaxText},
		length{"drain", len(a.Drain), MaxText},
		length{"after", len(a.After), MaxText},
		length{"response_topic", len(a.Response), MaxText},
		length{"id", len(a.ID), MaxText},
		length{"name", len(a.Name), MaxText},
		length{"session", len(a.Session), MaxText},
		length{"protocol", len(a.Protocol), MaxText},
		length{"address", len(a.Address), MaxText},
		length{"word", len(a.Word), MaxText},
		length{"ephemeral", len(a.Ephemeral), MaxText},
		length{"last", len(a.Last), MaxLast},
		length{"confirm", len(a.Confirm), MaxText},
		length{"code", len(a.Code), MaxText},
		length{"use", len(a.Use), MaxText},
		length{"token", len(a.Token), MaxText},
		length{"service_keys", len(a.ServiceKeys), MaxServiceKeys},
	)
}
