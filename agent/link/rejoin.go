package link

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// Rejoined is the event that a hub answered another join over the open connection, or why
// there is none.
type Rejoined struct {
	ConnID int
	Grant  topics.Grant
	Keys   *signed.Keys
	Err    error
}

// Rejoin has the link join again over the open connection. A Rejoined follows, or a Down.
func (l *Link) Rejoin() {
	select {
	case l.rejoins <- struct{}{}:
	default:
	}
}

// rejoin requests a join over the open connection, whose messages asked receives too. It
// reports false if the hub refuses the domain: then the connection is of no use.
func (l *Link) rejoin(ctx context.Context, conn Conn, connID int, c candidate, asked *atomic.Pointer[exchange]) bool {
	j, err := l.requestOver(ctx, conn, c, asked)
	l.o.Post(Rejoined{connID, j.grant, j.keys, err})
	if err == nil {
		l.storeWord(conn, j.grant)
		l.renewNow(j.grant)
		return true
	}
	if ctx.Err() == nil {
		l.logOnce(c.url, slog.LevelWarn, err.Error())
	}
	return !errors.As(err, new(refusalError))
}

// requestOver requests a join over a connection.
func (l *Link) requestOver(ctx context.Context, conn Conn, c candidate, asked *atomic.Pointer[exchange]) (join, error) {
	e, err := l.newJoin(c)
	if err != nil {
		return join{}, err
	}
	asked.Store(e)
	defer asked.Store(nil)
	ctx, cancel := context.WithTimeout(ctx, AnswerTimeout)
	defer cancel()
	g, err := l.exchange(ctx, conn, c, e)
	if err != nil {
		l.setUnanswered(e, err)
		return join{}, err
	}
	return l.granted(c, e, g)
}
