// Package commands holds the commands to agents whose answers are awaited, so that a
// refusal can be reported with the service that it is about.
//
// It does no I/O and knows no other part of the hub. Package hub alone imports it, and calls
// it from its loop.
package commands

import "crypto/rand"

// maxAwaited bounds the answers that are awaited: an agent may never answer.
const maxAwaited = 1000

// Commands holds what is awaited. Make it with New.
type Commands struct {
	// services are what the commands are about, by transaction; "": about no service.
	services map[string]string
}

// New returns Commands of which none is awaited.
func New() *Commands { return &Commands{services: make(map[string]string)} }

// Add returns the transaction of a command about a service. Of too many the old ones are not
// awaited any more.
func (c *Commands) Add(service string) (transaction string) {
	if len(c.services) >= maxAwaited {
		clear(c.services)
	}
	transaction = rand.Text()
	c.services[transaction] = service
	return transaction
}

// Answered ends the wait for an answer, and returns what the command is about; false: no
// command of the hub has this transaction.
func (c *Commands) Answered(transaction string) (service string, awaited bool) {
	service, awaited = c.services[transaction]
	delete(c.services, transaction)
	return service, awaited
}
