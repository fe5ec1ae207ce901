package engine

import "time"

// Limits bound what clients can take. A zero means the default, which is given in
// brackets.
type Limits struct {
	// MaxConnections at a time [10,000].
	MaxConnections int
	// MaxConnecting of these may not have logged in yet [1,000].
	MaxConnecting int
	// ConnectionsPerAddress at a time, from one remote address [unlimited].
	ConnectionsPerAddress int
	// ConnectionsPerSecond are accepted; more are closed at once [unlimited].
	ConnectionsPerSecond int
	// ConnectTimeout is the time until CONNECT must have arrived [10 s].
	ConnectTimeout time.Duration
	// WriteTimeout is the time without progress after which a connection is closed [10
	// s].
	WriteTimeout time.Duration
	// MaxPacket is in bytes [16 MiB].
	MaxPacket int
	// MaxKeepAlive lowers longer keep alives, and none, of MQTT 5 clients [as the
	// client asks].
	MaxKeepAlive time.Duration
	// MaxInflight is the number of unacknowledged messages of QoS 1 and 2, each way
	// [1,024].
	MaxInflight int
	// MaxQueuedMessages of one client [65,536].
	MaxQueuedMessages int
	// MaxQueuedBytes of one client [32 MiB].
	MaxQueuedBytes int
	// MaxSubscriptions of one client [16,384].
	MaxSubscriptions int
	// MaxWildcardSubscriptions of these may have + or # [1,024].
	MaxWildcardSubscriptions int
	// MaxTopicLevels of a topic or filter [128].
	MaxTopicLevels int
	// MaxTopicLength is in bytes [65,535].
	MaxTopicLength int
	// MessagesPerSecond that one client may publish; it is read no faster [unlimited].
	MessagesPerSecond int
	// BytesPerSecond that one client may send; it is read no faster [unlimited].
	BytesPerSecond int
	// MaxRetained is the number of retained messages [1,000,000].
	MaxRetained int
	// MaxRetainedBytes is their total size [256 MiB].
	MaxRetainedBytes int
	// MaxSessions is the number of sessions, connected or not [20,000].
	MaxSessions int
	// MaxSessionExpiry lowers longer session expiry intervals [30 days].
	MaxSessionExpiry time.Duration
	// TopicAliasMaximum is the number of topic aliases that a client may set [64].
	TopicAliasMaximum uint16
	// Memory is the number of bytes of all that clients make the engine hold
	// [unlimited].
	Memory int
}

// DefaultLimits returns the limits of an engine for which none are set.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

// withDefaults replaces zeros by the defaults.
func (l Limits) withDefaults() Limits {
	or := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	or(&l.MaxConnections, 10_000)
	or(&l.MaxConnecting, 1000)
	orTime(&l.ConnectTimeout, 10*time.Second)
	orTime(&l.WriteTimeout, 10*time.Second)
	or(&l.MaxPacket, 16<<20)
	or(&l.MaxInflight, 1024)
	l.MaxInflight = min(l.MaxInflight, 65535)
	or(&l.MaxQueuedMessages, 65_536)
	or(&l.MaxQueuedBytes, 32<<20)
	or(&l.MaxSubscriptions, 16_384)
	or(&l.MaxWildcardSubscriptions, 1024)
	or(&l.MaxTopicLevels, 128)
	or(&l.MaxTopicLength, 65_535)
	or(&l.MaxRetained, 1_000_000)
	or(&l.MaxRetainedBytes, 256<<20)
	or(&l.MaxSessions, 20_000)
	orTime(&l.MaxSessionExpiry, 30*24*time.Hour)
	if l.TopicAliasMaximum == 0 {
		l.TopicAliasMaximum = 64
	}
	return l
}
