package engine

import "time"

// Limits bound what a client can take. A zero is the default in brackets.
type Limits struct {
	MaxConnections           int           // [10,000]
	MaxConnecting            int           // of these, that have not logged in [1,000]
	ConnectionsPerAddress    int           // at a time, of one remote address [unlimited]
	ConnectionsPerSecond     int           // taken; more are closed at once [unlimited]
	ConnectTimeout           time.Duration // until CONNECT is here [10 s]
	WriteTimeout             time.Duration // without a byte taken by the client, then it is closed [10 s]
	MaxPacket                int           // bytes [16 MiB]
	MaxKeepAlive             time.Duration // longer ones, and none, are lowered for MQTT 5 [as the client wants]
	MaxInflight              int           // QoS 1 and 2 unacknowledged, each way [1,024]
	MaxQueuedMessages        int           // for one client [65,536]
	MaxQueuedBytes           int           // for one client [32 MiB]
	MaxSubscriptions         int           // of one client [16,384]
	MaxWildcardSubscriptions int           // of these, with + or # [1,024]
	MaxTopicLevels           int           // [128]
	MaxTopicLength           int           // bytes [65,535]
	MessagesPerSecond        int           // published by one client, which is read no faster [unlimited]
	BytesPerSecond           int           // sent by one client, which is read no faster [unlimited]
	MaxRetained              int           // messages [1,000,000]
	MaxRetainedBytes         int           // [256 MiB]
	MaxSessions              int           // connected or kept [20,000]
	MaxSessionExpiry         time.Duration // [30 days]
	TopicAliasMaximum        uint16        // that a client may use [64]
	Memory                   int           // bytes of what all clients make the engine hold [unlimited]
}

// DefaultLimits are those of an engine that is told none.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

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
