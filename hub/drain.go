package hub

import (
	"fmt"

	"github.com/jmbarzee/dominion/topics"
)

// drain sends an order to drain, or not to, to the domain, which owns the flag.
func (h *Hub) drain(name, word string) error {
	d, err := h.findDomain(name)
	if err != nil {
		return err
	}
	if d.Micro {
		return errMicroDrain(name)
	}
	if d.State != topics.DomainIsOnline {
		return fmt.Errorf("%s is %s: it stores the flag itself, so it must be online", name, d.State)
	}
	if h.signsFor(d) {
		h.commandDomain(d, drainCommand(word))
		return nil
	}
	h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainDrainSet, Domain: name}, []byte(word)))
	return nil
}

func errMicroDrain(name string) error {
	return fmt.Errorf("%s is a microdomain and cannot be drained: it runs what is built into it", name)
}
