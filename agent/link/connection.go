package link

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// closeTimeout is how long Close waits for the broker to take the last message.
const closeTimeout = 2 * time.Second

// Connection is the connection to the hub's broker as the agent's loop has it: from
// the events of a Link it knows which one is open, and whether the domain has joined by
// it. It subscribes to what health checks and traits need, and finds by the silence of
// the hub that it is gone. Only the loop uses it. Make it with NewConnection.
type Connection struct {
	// own are the filters that the link subscribes to.
	own []string
	// post passes a Subscribed to the loop.
	post func(event any)

	// conn is the open connection; nil: there is none.
	conn Conn
	// connID is the number of conn, or of the last one. Messages and events of
	// another are void.
	connID int
	// joined reports that the domain has joined by conn: it is subscribed.
	joined bool
	// grant is the hub's answer to the last join.
	grant topics.Grant
	// activeAt is when the hub of conn last published something.
	activeAt time.Time
	// silent reports that the hub published nothing for longer than the grant allows.
	silent bool

	// required are the topics of health checks and traits, sorted.
	required []string
	// requested are the topics requested by conn, and since when; nil: none yet.
	requested map[string]time.Time
	// lastChange is closed when the last change of subscriptions is done; nil: there was none.
	lastChange chan struct{}
	// changes are the goroutines that change subscriptions.
	changes sync.WaitGroup
}

// NewConnection returns a Connection without an open connection. own are the filters
// that the link subscribes to by itself; post passes a Subscribed to the loop.
func NewConnection(own []string, post func(event any)) *Connection {
	return &Connection{own: own, post: post}
}

// Up takes over a new connection. The domain has joined by it when it is ready. lost
// are the topics that the connection before it was subscribed to.
func (c *Connection) Up(e Up, now time.Time) (lost []string) {
	lost = slices.Collect(maps.Keys(c.requested))
	c.conn, c.connID, c.joined, c.grant = e.Conn, e.ConnID, false, e.Grant
	c.activeAt, c.silent = now, false // the hub granted the join a moment ago
	c.requested = nil
	return lost
}

// Rejoined takes over the grant of another join over the open connection.
func (c *Connection) Rejoined(g topics.Grant, now time.Time) {
	c.grant = g
	c.HubActive(now)
}

// Ready notes that the link is subscribed: the domain has joined. It reports false if
// that is of a connection that is over.
func (c *Connection) Ready(e Ready) bool {
	if !c.Open(e.ConnID) {
		return false
	}
	c.joined = true
	return true
}

// Down notes that a connection is over, and returns the topics that it was subscribed
// to. It reports false if another one was opened since.
func (c *Connection) Down(e Down) (lost []string, ok bool) {
	if e.ConnID != c.connID {
		return nil, false
	}
	lost = slices.Collect(maps.Keys(c.requested))
	c.conn, c.joined, c.requested = nil, false, nil
	return lost, true
}

// Open reports whether the connection of that number is open.
func (c *Connection) Open(connID int) bool { return connID == c.connID && c.conn != nil }

// Joined reports whether the domain has joined by the open connection.
func (c *Connection) Joined() bool { return c.joined }

// Current returns the open connection, nil if there is none, and its number.
func (c *Connection) Current() (Conn, int) { return c.conn, c.connID }

// Publish publishes a message if a connection is open.
func (c *Connection) Publish(m topics.Message) {
	if c.conn != nil {
		c.conn.Publish(m)
	}
}

// HubActive notes that the hub published something just now.
func (c *Connection) HubActive(now time.Time) { c.activeAt, c.silent = now, false }

// Reachable reports whether the domain has joined and its hub is not silent.
func (c *Connection) Reachable() bool { return c.joined && !c.silent }

// hubTimeout returns when a hub that publishes nothing any more counts as gone: there
// is no will where its broker, as a node of a cluster, died with it. Zero: never, as
// the hub's broker is its own.
func (c *Connection) hubTimeout() time.Time {
	if c.grant.Alive <= 0 {
		return time.Time{}
	}
	return c.activeAt.Add(3 * c.grant.Alive.Duration())
}

// Expire finds out whether the hub has been silent for too long.
func (c *Connection) Expire(now time.Time) {
	at := c.hubTimeout()
	c.silent = !at.IsZero() && !now.Before(at)
}

// Next returns when Expire has something to do; zero: not by itself.
func (c *Connection) Next() time.Time {
	if !c.joined || c.silent {
		return time.Time{}
	}
	return c.hubTimeout()
}

// Close publishes a last message and closes the connection. The link has ended by then.
func (c *Connection) Close(last topics.Message) error {
	defer c.changes.Wait()
	if c.conn == nil {
		return nil
	}
	c.conn.Publish(last)
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := c.conn.Flush(ctx)
	c.conn.Close()
	c.conn, c.joined = nil, false
	return err
}
