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

// reportRefusal reports a connection that was refused. A connection that the client
// closed before it sent anything was not.
func (c *conn) reportRefusal(err error) {
	if closedByClient(err) {
		c.e.log.Debug("a connection ended before it logged in", "remote", c.remote, "error", err)
		return
	}
	client := Client{Listener: c.listener, Remote: c.remote, Version: c.version}
	if c.client != nil {
		client = *c.client
	}
	if emit := c.e.trace.Load(); emit != nil && !(c.refusalSent && c.client != nil) { // otherwise refuseConnect has traced it
		(*emit)(TraceEvent{Client: client, Kind: wire.Connect, Refused: true, Detail: err.Error()})
	}
	if c.refusalLogged {
		return
	}
	if c.e.opts.ConnectRefused != nil {
		c.e.opts.ConnectRefused(client, err.Error())
		return
	}
	c.e.log.Info("connection refused: "+err.Error(), "client", client.ID, "remote", client.Remote, "listener", client.Listener)
}

// closedByClient reports whether an error means that the client closed the connection,
// or sent nothing in time.
func closedByClient(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe, os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return strings.HasPrefix(err.Error(), "websocket: close ")
}

// foreignProtocols are other protocols that are sent to an MQTT port, by their first
// bytes.
var foreignProtocols = []struct{ begins, cause string }{
	{"\x16\x03", "it speaks TLS, and this listener does not: use the port of broker.listen_tls"},
	{"PROXY ", proxyHint},
	{"\r\n\r\n\x00\r\nQUIT\n", proxyHint},
	{"GET ", httpHint},
	{"HEAD ", httpHint},
	{"POST ", httpHint},
	{"PUT ", httpHint},
	{"OPTIONS ", httpHint},
	{"CONNECT ", httpHint},
	{"PRI * HTTP/2", httpHint},
}

const (
	proxyHint = "a proxy sends it with a PROXY header, which is not understood: switch the PROXY protocol off there"
	httpHint  = "it speaks HTTP, and this listener MQTT: MQTT over WebSocket is at broker.listen_ws"
)

// foreignProtocol returns the cause why a client's first bytes are not MQTT, if they
// begin another known protocol; otherwise "". All bytes that are there must agree, and
// at least four.
func foreignProtocol(b []byte) string {
	for _, p := range foreignProtocols {
		n := min(len(b), len(p.begins))
		if n >= min(4, len(p.begins)) && bytes.Equal(b[:n], []byte(p.begins[:n])) {
			return p.cause
		}
	}
	return ""
}
