package engine

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// maxConnect is the maximum size of a CONNECT in bytes. It comes from a client that is
// not authenticated and is not given as much memory as others: identifier, user and
// password take a hundred bytes, a will some more.
const maxConnect = 128 << 10

// handshake reads CONNECT, answers it and attaches the session. It returns the bytes
// that were read beyond it.
func (c *conn) handshake() ([]byte, error) {
	var b []byte
	for {
		more, err := c.reader.read()
		if err != nil {
			return nil, err
		}
		b = more
		if cause := foreignProtocol(b); cause != "" {
			return nil, errors.New(cause)
		}
		first, start, end, short, err := wire.Frame(b)
		switch {
		case err != nil:
			return nil, err
		case first>>4 != wire.Connect:
			return nil, errors.New("the first packet is not CONNECT") // [MQTT-3.1.0-1]
		case short:
			c.reader.keepRest(b, 0)
			continue
		case end > min(c.e.limits.MaxPacket, maxConnect):
			return nil, errors.New("CONNECT is too large")
		}
		if err := wire.CheckFirst(first, wire.V5); err != nil {
			return nil, err
		}
		if end > len(b) {
			c.reader.keepRest(b, end)
			continue
		}
		body, bridge := wire.TrimBridgeMark(b[start:end])
		c.bridge = bridge
		pk, err := wire.Decode(first, body, 0)
		if err != nil {
			return nil, c.refuseMalformed(&pk, err)
		}
		c.e.stats.in.add(Traffic{Packets: 1, Bytes: uint64(end)})
		return b[end:], c.connect(&pk)
	}
}

// refuseMalformed handles a CONNECT that cannot be decoded. Only an unsupported
// protocol version is answered; otherwise the connection is closed [MQTT-3.1.4-1].
func (c *conn) refuseMalformed(pk *wire.Packet, err error) error {
	var level *wire.VersionError
	if errors.As(err, &level) {
		c.version = wire.V311 // [MQTT 3.1.1: MQTT-3.1.2-2]; MQTT 5 permits any answer
		return c.refuseConnect(wire.UnsupportedVersion, err)
	}
	return err // [MQTT-3.1.4-1]
}

// refuseConnect answers CONNECT with the reason for refusing the client [MQTT-3.1.4-2;
// MQTT 3.1.1: MQTT-3.2.2-5], and returns that reason.
func (c *conn) refuseConnect(code byte, reason error) error {
	if c.version != wire.V5 {
		switch code {
		case wire.UnsupportedVersion:
			code = 1
		case wire.ClientIdentifierNotValid:
			code = 2
		case wire.ServerBusy, wire.ServerUnavailable, wire.QuotaExceeded:
			code = 3
		case wire.BadUserNameOrPassword:
			code = 4
		case wire.NotAuthorized:
			code = 5
		default:
			return reason
		}
	}
	raw, err := wire.Append(nil, wire.Connack, wire.Packet{ProtocolVersion: c.version, ReasonCode: code})
	if err == nil {
		c.refusalSent = true
		_ = c.netConn.SetWriteDeadline(time.Now().Add(disconnectTimeout))
		_, _ = c.netConn.Write(raw)
	}
	if emit := c.e.trace.Load(); emit != nil && c.client != nil {
		(*emit)(TraceEvent{Client: *c.client, Out: true, Kind: wire.Connack, Code: code, Refused: true, Detail: reason.Error()})
	}
	return reason
}

// connect authenticates the client of a CONNECT, checks its will, and attaches its
// session.
func (c *conn) connect(pk *wire.Packet) error {
	c.version = pk.ProtocolVersion
	p := &pk.Connect
	if pk.Properties.AuthenticationMethod != "" {
		return c.refuseConnect(wire.BadAuthenticationMethod, errors.New("it asks for enhanced authentication, which is not offered")) // 4.12
	}
	var assigned string
	if p.ClientIdentifier == "" {
		if c.version == wire.V31 {
			return c.refuseConnect(wire.ClientIdentifierNotValid, errors.New("MQTT 3.1 needs a client id"))
		}
		if c.version == wire.V311 && !p.Clean {
			return c.refuseConnect(wire.ClientIdentifierNotValid, errors.New("a persistent session needs a client id")) // [MQTT 3.1.1: MQTT-3.1.3-8]
		}
		assigned = newClientID()
		p.ClientIdentifier = assigned
	}
	if len(p.ClientIdentifier) > c.e.limits.MaxTopicLength {
		return c.refuseConnect(wire.ClientIdentifierNotValid, errors.New("the client id is too long"))
	}
	client := c.claimedClient(pk, assigned != "")
	c.client = &client
	if emit := c.e.trace.Load(); emit != nil {
		(*emit)(tracedConnect(&client, pk))
	}
	if ask := c.e.opts.Authenticate; ask != nil {
		if err := ask(client, client.User, client.HasUser, p.Password); err != nil {
			c.refusalLogged = true
			return c.refuseConnect(connackCode(err), fmt.Errorf("client %q: %w", client.ID, err))
		}
	}
	w := c.newWill(pk)
	if client.Applicant {
		if w != nil {
			return c.refuseConnect(wire.NotAuthorized, fmt.Errorf("client %q: a will needs a user or a certificate", client.ID))
		}
		c.packetLimit = min(c.packetLimit, maxApplicantPacket)
	}
	if code, err := c.checkWill(w); err != nil {
		return c.refuseConnect(code, err)
	}
	if w != nil && !c.e.allowed(&client, ActionPublish, w.msg.Topic) {
		c.e.notify(&client, w.msg.Topic, "its will is dropped: it may not publish there")
		w = nil
	}
	return c.attach(pk, client, assigned, w)
}

// claimedClient returns the client that a CONNECT claims to be. Without a user name it
// is the user in its certificate.
func (c *conn) claimedClient(pk *wire.Packet, assigned bool) Client {
	p := &pk.Connect
	client := Client{
		ID: p.ClientIdentifier, User: string(p.Username), HasUser: p.UsernameFlag,
		Listener: c.listener, Remote: c.remote, Version: c.version, Assigned: assigned,
	}
	if certified, ok := c.netConn.(Certified); ok {
		client.Certificate, client.CertificateUse = certified.Certificate()
		if client.Certificate != "" && !client.HasUser {
			client.User, client.HasUser = client.Certificate, true
		}
	}
	if c.e.opts.IgnoreUser != nil && client.HasUser && client.Certificate == "" && c.e.opts.IgnoreUser(client) {
		client.User, client.HasUser = "", false
	}
	if !client.HasUser && client.Certificate == "" && c.e.opts.Applicant != nil {
		client.Applicant = c.e.opts.Applicant(client)
	}
	return client
}

// checkWill returns why a will is not accepted, with the reason code. A nil will is.
func (c *conn) checkWill(w *will) (code byte, err error) {
	if w == nil {
		return wire.Success, nil
	}
	if len(w.msg.Topic) > c.e.limits.MaxTopicLength || levels([]byte(w.msg.Topic)) > c.e.limits.MaxTopicLevels {
		return wire.TopicNameInvalid, errors.New("its will has a topic beyond the limits")
	}
	if w.msg.Properties.HasPayloadFormat && w.msg.Properties.PayloadFormat == 1 && !validText(w.msg.Payload) {
		return wire.PayloadFormatInvalid, errors.New("its will is not valid UTF-8, as its payload format indicates")
	}
	return wire.Success, nil
}

// connackCode returns the reason code for an error of Options.Authenticate.
func connackCode(err error) byte {
	switch {
	case errors.Is(err, ErrBadCredentials):
		return wire.BadUserNameOrPassword
	case errors.Is(err, ErrClientIDTaken):
		return wire.ClientIdentifierNotValid
	case errors.Is(err, ErrBusy):
		return wire.ServerBusy
	}
	return wire.NotAuthorized
}

// newClientID returns a random client identifier.
func newClientID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return "auto-" + hex.EncodeToString(b[:])
}

// limitKeepAlive returns the keep alive that holds for the client in seconds, and
// whether it differs from the requested one.
func (c *conn) limitKeepAlive(requested uint16) (seconds uint16, lowered bool) {
	limit := c.e.limits.MaxKeepAlive / time.Second
	if limit == 0 || c.version != wire.V5 || requested != 0 && time.Duration(requested) <= limit {
		return requested, false
	}
	return uint16(min(limit, 65535)), true
}

// negotiate returns the CONNACK for a CONNECT, with the properties by which the server
// differs from what the client asked for, and the session expiry interval. It sets the
// keep alive of the connection.
func (c *conn) negotiate(pk *wire.Packet, assigned string) (answer wire.Packet, expiry uint32) {
	limits := &c.e.limits
	var requested uint32
	if c.version == wire.V5 {
		requested = pk.Properties.SessionExpiryInterval
	} else if !pk.Connect.Clean {
		requested = store.NeverExpires
	}
	expiry = c.e.limitExpiry(requested)
	if c.client.Applicant {
		expiry = 0
	}
	answer.ProtocolVersion = c.version
	props := &answer.Properties
	props.AssignedClientID = assigned
	if c.version == wire.V5 {
		if expiry != requested {
			props.SessionExpiryInterval, props.SessionExpiryIntervalFlag = expiry, true
		}
		props.ReceiveMaximum = uint16(limits.MaxInflight)
		props.MaximumPacketSize = uint32(c.packetLimit)
		props.TopicAliasMaximum = limits.TopicAliasMaximum
	}
	seconds, lowered := c.limitKeepAlive(pk.Connect.Keepalive)
	props.ServerKeepAlive, props.ServerKeepAliveFlag = seconds, lowered
	c.keepAliveTimeout = time.Duration(seconds) * time.Second * 3 / 2 // [MQTT-3.1.2-22; MQTT 3.1.1: MQTT-3.1.2-24]
	return answer, expiry
}

// attach gives the connection its session: the existing one, unless the client asks
// for a clean start, or a new one. An existing connection of the client is
// disconnected first [MQTT-3.1.4-3]. CONNACK is queued before anything else.
func (c *conn) attach(pk *wire.Packet, client Client, assigned string, w *will) error {
	e := c.e
	answer, expiry := c.negotiate(pk, assigned)
	c.hasWill = w != nil
	window := e.limits.MaxInflight
	if m := int(pk.Properties.ReceiveMaximum); c.version == wire.V5 && m > 0 {
		window = min(window, m)
	}

	raw, err := wire.Append(nil, wire.Connack, answer)
	if err != nil {
		return err
	}
	if c.maxPacket = int(pk.Properties.MaximumPacketSize); c.maxPacket > 0 && len(raw) > c.maxPacket {
		return errors.New("its maximum packet size is smaller than CONNACK") // [MQTT-3.1.2-24]
	}

	c.budget = e.budgetOf(&client)
	if c.budget != nil && (expiry > 0 || w != nil) {
		ok, err := c.waitForBudget(sessionCost(&client, w), budgetTimeout)
		if err != nil {
			return err
		}
		if !ok {
			return c.refuseUser(errOverWriteBudget)
		}
	}

	s, before, err := c.takeSession(pk, &client, expiry, w)
	if err != nil {
		return err
	}

	// The session becomes this connection's, unless another one was faster.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed || s.conn != nil {
		return errors.New("taken over by another connection during the handshake")
	}
	c.s = s
	c.maxOutAliases = pk.Properties.TopicAliasMaximum
	c.hasSession.Store(true)
	s.conn = c
	s.online.Store(true)
	c.memory = c.baseMemory()
	s.accountMemory(c.memory)
	s.stopTimerLocked()
	present := before != nil
	answer.SessionPresent = present && c.version != wire.V31 // [MQTT-3.2.2-2, -3]
	raw, _ = wire.Append(nil, wire.Connack, answer)          // only SessionPresent has changed
	c.enqueue(packet{raw: raw})
	s.resume(window, before)
	c.lastReceived.Store(int64(e.now()))
	c.timer.Stop()
	if c.keepAliveTimeout > 0 {
		c.timer = time.AfterFunc(c.keepAliveTimeout, c.checkKeepAlive)
	}
	s.wake()
	e.stats.connects.Add(1)
	e.log.Debug("connected", "client", s.id, "user", client.User, "remote", c.remote, "version", c.version, "session present", present)
	return nil
}

// takeSession returns the session of a client, an existing one or a new one, charged to
// its user and stored. before is the client that had it; nil: it is new. A will that
// is due by the end of the previous connection is sent before it returns.
func (c *conn) takeSession(pk *wire.Packet, client *Client, expiry uint32, w *will) (s *session, before *Client, err error) {
	e := c.e
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, nil, c.refuseConnect(wire.ServerUnavailable, errors.New("the server is shutting down"))
	}
	old := e.sessions[client.ID]
	ended, err := e.admitClient(client, old)
	if client.Applicant {
		ended, err = nil, e.admitApplicant(client, old)
	}
	if err == nil {
		var more []*session
		more, err = e.admitMemory(e.usageOf(client), sessionMemory(client)+c.baseMemory()+w.memory(), old)
		ended = append(ended, more...)
	}
	if err != nil {
		e.mu.Unlock()
		for _, s := range ended {
			s.teardown()
		}
		if errors.Is(err, errNotAnApplicants) {
			return nil, nil, c.refuseConnect(wire.ClientIdentifierNotValid, err)
		}
		return nil, nil, c.refuseUser(err)
	}
	var due *will // that of the connection or session that ends here
	s = old
	if old != nil {
		due = old.takeOver()
		if pk.Connect.Clean || old.isGone() {
			s = nil
			old.remove()
			ended = append(ended, old)
		}
	}
	if s == nil {
		if expiry > 0 {
			ended = append(ended, e.evictSessions()...)
		}
		s = &session{e: e, id: client.ID}
		e.sessions[client.ID] = s
		e.stats.maxSessions.Store(max(e.stats.maxSessions.Load(), int64(len(e.sessions))))
	}
	s.mu.Lock()
	before = s.client.Swap(client)
	s.chargeUser(client)
	if before != nil {
		s.accountMemory(-sessionMemory(before))
	}
	s.accountMemory(sessionMemory(client))
	s.budget.Store(c.budget)
	s.bridge = c.bridge
	s.expiry = expiry
	s.setWill(w)
	s.disconnectedAt, s.endedByServer = time.Time{}, false
	s.persistSession()
	s.mu.Unlock()
	e.mu.Unlock()
	for _, s := range ended {
		s.teardown()
	}
	if due != nil {
		e.sendWill(due) // before any packet of the new connection
	}
	return s, before, nil
}

// persistSession stores the session of a new connection. If the session ends with its
// connection, only the will outlasts the server: it is sent if the client is not back
// after a restart [MQTT-3.1.2-8]. The caller holds s.mu.
func (s *session) persistSession() {
	e := s.e
	if e.store == nil {
		return
	}
	durable := s.expiry > 0
	if s.inStore && !durable {
		e.store.Append([]store.Record{store.SessionGone{Client: s.id}}, nil)
		s.markAllStored()
	}
	s.durable, s.inStore = durable, durable || s.will != nil
	if !s.inStore {
		return
	}
	records := []store.Record{s.record(), store.Will{Client: s.id}}
	if w := s.will; w != nil {
		records[1] = store.Will{Client: s.id, Message: &w.msg.Message, Delay: w.delay, ExpiryInterval: w.expiryInterval}
	}
	e.store.Append(records, nil)
}

// resume prepares what the client has not acknowledged to be sent again (MQTT 5.0,
// 4.4), and removes subscriptions that are no longer allowed. The caller holds s.mu.
func (s *session) resume(window int, before *Client) {
	s.flow.resume(window)
	if before == nil {
		return
	}
	for i := range s.flow.flights.len() {
		if d := s.flow.flights.at(i); d.phase == store.Releasing && d.stored {
			s.conn.enqueueDelivery(d)
		}
	}
	s.dropV5Options()
	for filter, sub := range s.subscriptions {
		if s.e.allowed(s.client.Load(), ActionSubscribe, filter) {
			continue
		}
		s.unsubscribe(sub)
		s.append([]store.Record{store.Unsubscribe{Client: s.id, Filter: filter}}, nil)
	}
	if now := s.client.Load(); before.User != now.User || before.HasUser != now.HasUser || before.Listener != now.Listener {
		s.e.AccessChanged()
	}
}

// dropV5Options removes the options of MQTT 5 from the subscriptions of a session that
// continues in an older version, and from what is queued for them. There RETAIN is 0
// on messages for an existing subscription [MQTT 3.1.1: MQTT-3.3.1-9], and a client
// receives its own messages. The caller holds s.mu.
func (s *session) dropV5Options() {
	if s.conn.version == wire.V5 || s.bridge {
		return
	}
	var changed []*subscription
	for _, sub := range s.subscriptions {
		if sub.retainAsPublished || sub.noLocal {
			changed = append(changed, sub)
		}
	}
	var records []store.Record
	for _, old := range changed {
		sub := *old
		sub.retainAsPublished, sub.noLocal = false, false
		s.subscribe(&sub)
		records = append(records, sub.record(s.id))
	}
	for i := range s.flow.queue.len() {
		s.flow.queue.at(i).retain = false
	}
	s.append(records, nil)
}

// checkKeepAlive disconnects a client that sent nothing for longer than its keep alive
// [MQTT-3.1.2-22].
func (c *conn) checkKeepAlive() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.unstored.Load() > maxUnstored { // the engine does not read from it
		c.lastReceived.Store(int64(c.e.now()))
	}
	remaining := time.Duration(c.lastReceived.Load()) + c.keepAliveTimeout - c.e.now()
	if remaining > 0 && !c.ending {
		c.timer.Reset(remaining)
		return
	}
	c.disconnect(wire.KeepAliveTimeout, "it sent nothing for longer than its keep alive")
}
