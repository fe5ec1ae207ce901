package limits

import "time"

// LeastTime is the shortest duration that a limit may have.
const LeastTime = time.Second

// Row is one limit.
type Row struct {
	// Key is its name in [broker.limits].
	Key string
	// Of returns the limit's place: an *int, a *uint16 or a *time.Duration.
	Of func(l *Limits, u *UserLimits) any
	// Default is an int or a time.Duration. nil: 0, there is no such limit.
	Default any
	// Least and Most bound numbers; Most 0: there is no upper bound. The least of each
	// leaves room for what a dominion publishes itself.
	Least, Most int
	// Optional limits may be 0: there is no such limit.
	Optional bool
	// HoldsPacket limits are sizes of what holds messages: not below max_packet.
	HoldsPacket bool
	// Reload limits change while the broker runs, the others by a restart.
	Reload bool
	// DefaultText stands in the document where the default is not the whole of it.
	DefaultText string
	// Beyond says what happens beyond the limit.
	Beyond string
}

// Rows are all limits, in the order of the document.
var Rows = []Row{
	{
		Key: "max_connections", Default: 10_000, Least: 1,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxConnections },
		Beyond: "a further connection is closed at once",
	},
	{
		Key: "max_connecting", Default: 1000, Least: 16,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxConnecting },
		Beyond: "of these, that have not logged in: of the address that has the most the one that waits longest is closed. Its CONNECT may have 128 KiB",
	},
	{
		Key: "connections_per_address", Optional: true,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.ConnectionsPerAddress },
		Beyond: "the same, for connections from one IP address; all that use the Unix socket count as one",
	},
	{
		Key: "connections_per_second", Optional: true,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.ConnectionsPerSecond },
		Beyond: "the same, for those taken within a second; clients try again",
	},
	{
		Key: "connect_timeout", Default: 10 * time.Second,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.ConnectTimeout },
		Beyond: "a connection that has not logged in by then is closed",
	},
	{
		Key: "write_timeout", Default: 10 * time.Second,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.WriteTimeout },
		Beyond: "a client that does not accept a byte for this time is closed",
	},
	{
		Key: "max_packet", Default: 16 << 20, Least: 64 << 10, Most: 268_435_455, // the maximum of MQTT
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxPacket },
		Beyond: "a larger packet ends its connection (0x95), and the log has its topic. A dominion's own are up to 1 MiB, Zigbee2MQTT's `bridge/devices` has 2.3 MB with 135 devices. At least 65536, at most 268435455; where it is not set and one of the sizes below is smaller, that is the default, down to 2097152",
	},
	{
		Key: "max_keep_alive", Optional: true,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxKeepAlive },
		Beyond: "a client of MQTT 5 that asks for a longer keep alive gets this one instead; 3.1.1 has no way to change it, and the client's own applies",
	},
	{
		Key: "max_inflight", Default: 1024, Least: 1, Most: 65_535,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxInflight },
		Beyond: "this many messages of QoS 1 and 2 are sent to a client before it must acknowledge, the rest wait in its queue; a client of MQTT 5 that sends more at a time is disconnected (0x93)",
	},
	{
		Key: "max_queued_messages", Default: 65_536, Least: 1,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxQueuedMessages },
		Beyond: "for a client that is connected: QoS 0 is dropped, a message of QoS 1 or 2 ends the connection (0x97), and the session stays. For a disconnected client: the new message is dropped. `$SYS/broker/publish/messages/dropped` counts them",
	},
	{
		Key: "max_queued_bytes", Default: 32 << 20, Least: 64 << 10, HoldsPacket: true,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxQueuedBytes },
		Beyond: "the same, by size; not below `max_packet`",
	},
	{
		Key: "max_subscriptions", Default: 16_384, Least: 16,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxSubscriptions },
		Beyond: "a client's further subscription is refused (0x97; 0x80 for 3.1.1), and one whose filter makes all of its filters longer than 1 MiB, or of more than 8 levels on average",
	},
	{
		Key: "max_wildcard_subscriptions", Default: 1024, Least: 1,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxWildcardSubscriptions },
		Beyond: "of these, with `+` or `#`: each message on a new topic is compared with them",
	},
	{
		Key: "max_topic_levels", Default: 128, Least: 16, Most: 65_535,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxTopicLevels },
		Beyond: "a subscription is refused (0x8F; 0x80), a publish too (0x90; a closed connection for 3.1.1)",
	},
	{
		Key: "max_topic_length", Default: 65_535, Least: 512, Most: 65_535,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxTopicLength },
		Beyond: "the same, for topics, filters and client ids that are longer",
	},
	{
		Key: "messages_per_second", Optional: true,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MessagesPerSecond },
		Beyond: "a client that publishes faster is read no faster: it waits, nothing is lost",
	},
	{
		Key: "bytes_per_second", Optional: true,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.BytesPerSecond },
		Beyond: "the same, by what it sends",
	},
	{
		Key: "max_retained", Default: 1_000_000, Least: 1000,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxRetained },
		Beyond: "a message on a further topic is delivered and not retained (0x97; 3.1.1 has no answer for it); existing topics can be changed. The hub's own messages are always retained",
	},
	{
		Key: "max_retained_bytes", Default: 256 << 20, Least: 64 << 10, HoldsPacket: true,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxRetainedBytes },
		Beyond: "the same, by size; not below `max_packet`",
	},
	{
		Key: "max_sessions", Default: 20_000, Least: 100,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxSessions },
		Beyond: "connected or not; beyond it the sessions end that are disconnected for longest, of the user who has most of them: a program that generates a client id each time does not displace others",
	},
	{
		Key: "max_session_expiry", Default: 30 * 24 * time.Hour,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.MaxSessionExpiry },
		Beyond: "a session without its client ends after this time, with what is queued for it",
	},
	{
		Key: "topic_alias_maximum", Default: 64, Least: 1, Most: 65_535,
		Of:     func(l *Limits, _ *UserLimits) any { return &l.TopicAliasMaximum },
		Beyond: "the value that MQTT 5 clients get; a larger alias ends the connection (0x94)",
	},
	{
		Key: "clients_per_user", Default: 1000, Optional: true, Reload: true,
		Of:     func(_ *Limits, u *UserLimits) any { return &u.Clients },
		Beyond: "all clients of one user, connected or not: for a further one the session ends that is disconnected for longest, with what is queued for it; if all are connected the client is refused (0x97; 3 for 3.1.1)",
	},
	{
		Key: "queued_bytes_per_user", Default: 128 << 20, Optional: true, Reload: true, HoldsPacket: true,
		Of:     func(_ *Limits, u *UserLimits) any { return &u.QueuedBytes },
		Beyond: "what is queued for all clients of one user, in messages of QoS 1 and 2: beyond it each client may have its share of this number, and a client above its share is treated as with `max_queued_bytes`. Not below `max_packet`",
	},
	{
		Key: "memory", Optional: true, HoldsPacket: true,
		Of:          func(l *Limits, _ *UserLimits) any { return &l.Memory },
		DefaultText: "0: a quarter of the machine's memory or of what the control group may have, whichever is less",
		Beyond:      "all that clients make the broker hold, see below. Not below `max_packet`",
	},
	{
		Key: "memory_per_user", Optional: true, Reload: true, HoldsPacket: true,
		Of:          func(_ *Limits, u *UserLimits) any { return &u.Memory },
		DefaultText: "0: half of `memory`",
		Beyond:      "the same, for all clients of one user",
	},
	{
		Key: "written_bytes_per_user", Default: 100_000_000, Optional: true, Reload: true,
		Of:     func(_ *Limits, u *UserLimits) any { return &u.WrittenBytes },
		Beyond: "bytes a day that the broker writes to the disk because of all clients of one user, a tenth of them at once; 0: no limit. See [what is written](../explanation/what-is-written.md#how-much-is-written)",
	},
}
