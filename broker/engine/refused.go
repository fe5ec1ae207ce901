package engine

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jmbarzee/dominion/broker/wire"
)

// refused reports a connection that was not let in. One that was closed before it
// asked for anything was not refused.
func (c *conn) refused(err error) {
	if wentAway(err) {
		c.e.log.Debug("a connection ended before it logged in", "remote", c.remote, "error", err)
		return
	}
	who := Client{Listener: c.listener, Remote: c.remote, Version: c.version}
	if c.who != nil {
		who = *c.who
	}
	if see := c.e.trace.Load(); see != nil && !(c.answered && c.who != nil) { // else refuseConnect has
		(*see)(Traced{Client: who, Kind: wire.Connect, Refused: true, Words: err.Error()})
	}
	if c.reported {
		return
	}
	if c.e.ask.Refused != nil {
		c.e.ask.Refused(who, err.Error())
		return
	}
	c.e.log.Info("connection refused: "+err.Error(), "client", who.ID, "remote", who.Remote, "listener", who.Listener)
}

// wentAway reports whether an error is that the client has closed the connection
// or did not say anything in time.
func wentAway(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe, os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return strings.HasPrefix(err.Error(), "websocket: close ")
}

// otherProtocols are what else is sent to a port of MQTT, by how it begins.
var otherProtocols = []struct{ begins, cause string }{
	{"\x16\x03", "it speaks TLS, and this listener does not: use the port of broker.listen_tls"},
	{"PROXY ", proxied},
	{"\r\n\r\n\x00\r\nQUIT\n", proxied},
	{"GET ", webbed},
	{"HEAD ", webbed},
	{"POST ", webbed},
	{"PUT ", webbed},
	{"OPTIONS ", webbed},
	{"CONNECT ", webbed},
	{"PRI * HTTP/2", webbed},
}

const (
	proxied = "a proxy sends it with a PROXY header, which is not understood: switch the PROXY protocol off there"
	webbed  = "it speaks HTTP, and this listener MQTT: MQTT over WebSocket is at broker.listen_ws"
)

// otherProtocol returns why the first bytes of a client are not MQTT, where
// they are of another protocol that is known, and "" where they are not. So many
// bytes as are there must agree, and four at least.
func otherProtocol(b []byte) string {
	for _, p := range otherProtocols {
		n := min(len(b), len(p.begins))
		if n >= min(4, len(p.begins)) && bytes.Equal(b[:n], []byte(p.begins[:n])) {
			return p.cause
		}
	}
	return ""
}
