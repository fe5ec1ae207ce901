package config

import "time"

// Persistence is [broker.persistence].
type Persistence struct {
	// Sync is the time until what was acknowledged is on the disk; 0: before it is
	// acknowledged.
	Sync time.Duration
	// Exclude are filters of topics that are never written.
	Exclude []string
}

// DefaultSync is how much a power cut may take by default.
const DefaultSync = 100 * time.Millisecond

// longestSync bounds what a power cut may take.
const longestSync = time.Minute

// persistenceSection returns [broker.persistence]: what of the broker is written to disk,
// and how soon.
func persistenceSection() section[*Dominion] {
	return section[*Dominion]{
		path: "broker.persistence", asWhole: true, doc: "[what is written to disk](../explanation/what-is-written.md)",
		settings: []setting[*Dominion]{
			{
				key: "sync", of: func(d *Dominion) any { return &d.Broker.Persistence.Sync }, def: DefaultSync,
				read: func(t *table, _ string, d *Dominion) { t.sync(&d.Broker.Persistence.Sync) },
				doc:  "what a power cut may take; `\"always\"`: nothing",
			},
			{
				key: "exclude", of: func(d *Dominion) any { return &d.Broker.Persistence.Exclude },
				check: eachText(checkFilter),
				doc:   "filters of topics that are never written, as `[\"camera/#\", \"+/raw\"]`",
			},
		},
	}
}

// sync reads a duration, or "always", which is none.
func (t *table) sync(to *time.Duration) {
	const key = "sync"
	if v, _, _ := t.take(key); v == "always" {
		*to = 0
		return
	}
	var d time.Duration
	if !t.duration(key, &d) || !t.set(key) {
		return
	}
	if d == 0 {
		t.fault(key, `write "always" to have everything on the disk before it is acknowledged`, "must be longer than nothing")
	} else if d > longestSync {
		t.fault(key, `the default is "100ms"`, "%v is longer than %v: a power cut would take all of that", d, longestSync)
	} else {
		*to = d
	}
}
