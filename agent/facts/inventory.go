package facts

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// pollInterval is the time between two polls of catalog and addresses: what changes is
// found within 5 s.
const pollInterval = 3 * time.Second

// Source describes the machine. Its methods do not block.
type Source interface {
	// Catalog returns the services on disk, by name, and what is new among
	// the problems with them.
	Catalog() (rows []topics.CatalogRow, problems []string)
	// Addresses returns where the machine is reached, "" for nowhere, and all
	// its addresses.
	Addresses() (address string, all []string)
}

// Inventory is the machine as it was polled last: the services on its disk and its
// addresses. But for Address, only the agent's loop uses it. Make it with NewInventory.
type Inventory struct {
	source   Source
	interval time.Duration
	log      *slog.Logger

	pollAt    time.Time
	catalog   []topics.CatalogRow
	addresses []string
	// address is the address of this domain; nil: it was not polled yet.
	address atomic.Pointer[string]
}

// NewInventory returns an inventory that was not polled. least is the least time
// between two polls.
func NewInventory(source Source, least time.Duration, log *slog.Logger) *Inventory {
	return &Inventory{source: source, interval: max(pollInterval, least), log: log}
}

// Due reports whether a poll is due.
func (i *Inventory) Due(now time.Time) bool { return !now.Before(i.pollAt) }

// Next returns when a poll is due.
func (i *Inventory) Next() time.Time { return i.pollAt }

// Poll reads catalog and addresses, and returns what is new among the problems of the
// catalog. configured is the address that the configuration names, "" for none.
func (i *Inventory) Poll(configured string, now time.Time) (problems []string) {
	if i.Due(now) {
		i.pollAt = now.Add(i.interval)
	}
	i.catalog, problems = i.source.Catalog()
	address, all := i.source.Addresses()
	old := i.address.Load()
	switch {
	case configured != "":
		address = configured
	case address == "" && old != nil:
		address = *old // a cable is out: most come back with the address they had
	case address == "":
		address = "127.0.0.1"
	}
	if old != nil && *old != address {
		i.log.Info("this domain's address changed", "from", *old, "to", address)
	}
	if old == nil || *old != address {
		i.address.Store(&address)
	}
	i.addresses = all
	return problems
}

// Catalog returns the services on disk, by name. It is not to be changed.
func (i *Inventory) Catalog() []topics.CatalogRow { return i.catalog }

// Addresses returns all addresses of the machine.
func (i *Inventory) Addresses() []string { return i.addresses }

// Address returns where this domain is reached; "" before the first poll. Any goroutine
// may call it.
func (i *Inventory) Address() string {
	if a := i.address.Load(); a != nil {
		return *a
	}
	return ""
}

// Has reports whether a service is on disk.
func (i *Inventory) Has(service string) bool {
	_, ok := i.row(service)
	return ok
}

// Version returns the version of a service on disk; "" if it has none or is not there.
func (i *Inventory) Version(service string) string {
	row, _ := i.row(service)
	return row.Version
}

// row returns the row of a service in the catalog.
func (i *Inventory) row(service string) (topics.CatalogRow, bool) {
	for _, row := range i.catalog {
		if row.Service == service {
			return row, true
		}
	}
	return topics.CatalogRow{}, false
}
