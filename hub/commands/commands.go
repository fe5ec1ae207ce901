// Package commands holds the commands to agents whose answers are awaited, so that a
// refusal can be reported with the service that it is about, and an answer passed on to
// who asked the hub. It numbers the commands to domains that have a key.
//
// It does no I/O and knows no other part of the hub. Package hub alone imports it, and calls
// it from its loop.
package commands

import "crypto/rand"

// maxAwaited bounds the answers that are awaited: an agent may never answer.
const maxAwaited = 1000

// Command is what is awaited of an agent.
type Command struct {
	// Service is what the command is about; "": no service.
	Service string
	// Domain is whose answer counts for Answer.
	Domain string
	// Answer passes the answer on to who asked the hub; nil: the hub itself asked.
	Answer any
}

// Commands holds what is awaited. Make it with New.
type Commands struct {
	// awaited are the commands by transaction.
	awaited map[string]Command
	// last is the last number that Number returned.
	last uint64
}

// New returns Commands of which none is awaited.
func New() *Commands { return &Commands{awaited: make(map[string]Command)} }

// Add returns the transaction of a command. Of too many the old ones are not awaited any
// more.
func (c *Commands) Add(command Command) (transaction string) {
	if len(c.awaited) >= maxAwaited {
		clear(c.awaited)
	}
	transaction = rand.Text()
	c.awaited[transaction] = command
	return transaction
}

// Awaits reports whether an answer of a domain is awaited.
func (c *Commands) Awaits(domain, transaction string) bool {
	command, awaited := c.awaited[transaction]
	return awaited && command.Domain == domain
}

// Answered ends the wait for an answer of a domain, and returns the command; false: no
// command of the hub to this domain has this transaction.
func (c *Commands) Answered(domain, transaction string) (command Command, awaited bool) {
	command, awaited = c.awaited[transaction]
	if !awaited || command.Domain != domain {
		return Command{}, false
	}
	delete(c.awaited, transaction)
	return command, true
}

// numbersOfEpoch is how many numbers an epoch has. Agents outlive runs of the hub: the
// numbers of a later epoch are greater.
const numbersOfEpoch = 1 << 32

// Number returns the number of the next signed command in an epoch of the hub. It is
// greater than every one before.
func (c *Commands) Number(epoch uint64) uint64 {
	c.last = max(c.last+1, min(epoch, 1<<31)*numbersOfEpoch)
	return c.last
}
