// Package limits defines what clients may take of a broker: each limit once, with its
// default, its range and what happens beyond it. The engine enforces the limits,
// config reads them from [broker.limits], and the table in the reference of the
// configuration is generated from the rows.
//
// It imports the standard library alone: whoever reads a configuration must not
// link the engine.
package limits

import (
	"reflect"
	"time"
)

// Limits bound what clients can take. What each means stands in its row.
type Limits struct {
	MaxConnections           int
	MaxConnecting            int
	ConnectionsPerAddress    int
	ConnectionsPerSecond     int
	ConnectTimeout           time.Duration
	WriteTimeout             time.Duration
	MaxPacket                int // bytes
	MaxKeepAlive             time.Duration
	MaxInflight              int
	MaxQueuedMessages        int
	MaxQueuedBytes           int
	MaxSubscriptions         int
	MaxWildcardSubscriptions int
	MaxTopicLevels           int
	MaxTopicLength           int // bytes
	MessagesPerSecond        int
	BytesPerSecond           int
	MaxRetained              int
	MaxRetainedBytes         int
	MaxSessions              int
	MaxSessionExpiry         time.Duration
	TopicAliasMaximum        uint16
	// Memory is in bytes. 0: the engine has no such limit; the broker takes a quarter
	// of the machine's memory, or of the control group's.
	Memory int
}

// UserLimits bound what all clients of one user may have together. They may change
// while the engine runs; existing sessions are not ended by that. A zero is no limit.
// Clients without a user are not bound by them, but for WrittenBytes.
type UserLimits struct {
	// Clients is the number of sessions, connected or not.
	Clients int
	// QueuedBytes is the size of what waits for all of them; each may have its share
	// beyond that.
	QueuedBytes int
	// Memory is in bytes, as accounted for; 0: half of Limits.Memory.
	Memory int
	// WrittenBytes are those that the store writes a day because of them. This also
	// binds clients without a user, and the program's own messages.
	WrittenBytes int
}

// Default returns the limits of a broker for which none are set.
func Default() Limits {
	l, _ := defaults()
	return l
}

// DefaultUsers returns the limits of users where none are set. They are far beyond
// what a home's devices need that share one user, and below what does harm.
func DefaultUsers() UserLimits {
	_, u := defaults()
	return u
}

func defaults() (l Limits, u UserLimits) {
	for _, row := range Rows {
		if row.Default != nil {
			field := reflect.ValueOf(row.Of(&l, &u)).Elem()
			field.Set(reflect.ValueOf(row.Default).Convert(field.Type()))
		}
	}
	return l, u
}

// WithDefaults returns l with the default for what is zero or below.
func (l Limits) WithDefaults() Limits {
	d := Default()
	fields, usual := reflect.ValueOf(&l).Elem(), reflect.ValueOf(d)
	for i := range fields.NumField() {
		if f := fields.Field(i); f.IsZero() || f.CanInt() && f.Int() < 0 {
			f.Set(usual.Field(i))
		}
	}
	return l
}
