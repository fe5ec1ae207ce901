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

// maxConnect bounds a CONNECT. It comes of a stranger, who is not to be given
// as much memory as who is known: identifier, user and password have a hundred
// bytes, and a will some more.
const maxConnect = 128 << 10

// greet reads CONNECT, answers it and gives the connection its session. It
// returns what was read beyond it.
func (c *conn) greet() ([]byte, error) {
	var b []byte
	for {
		more, err := c.in.read()
		if err != nil {
			return nil, err
		}
		b = more
		if cause := otherProtocol(b); cause != "" {
			return nil, errors.New(cause)
		}
		first, start, end, short, err := wire.Frame(b)
		switch {
		case err != nil:
			return nil, err
		case first>>4 != wire.Connect:
			return nil, errors.New("the first packet is no CONNECT") // [MQTT-3.1.0-1]
		case short:
			c.in.keep(b, 0)
			continue
		case end > min(c.e.limits.MaxPacket, maxConnect):
			return nil, errors.New("CONNECT is too large")
		}
		if err := wire.CheckFirst(first, wire.V5); err != nil {
			return nil, err
		}
		if end > len(b) {
			c.in.keep(b, end)
			continue
		}
		body, bridge := wire.Bridge(b[start:end])
		c.bridge = bridge
		pk, err := wire.Decode(first, body, 0)
		if err != nil {
			return nil, c.reject(&pk, err)
		}
		c.e.stats.in.add(Traffic{Packets: 1, Bytes: uint64(end)})
		return b[end:], c.connect(&pk)
	}
}

// reject answers a CONNECT that cannot be taken, where there is an answer: of
// its own version if that is known.
func (c *conn) reject(pk *wire.Packet, err error) error {
	var level *wire.VersionError
	if errors.As(err, &level) {
		c.version = wire.V311 // [MQTT 3.1.1: MQTT-3.1.2-2]; MQTT 5 leaves it open
		return c.refuseConnect(wire.UnsupportedVersion, err)
	}
	return err // [MQTT-3.1.4-1]: it is closed
}

// refuseConnect says why a client is not let in [MQTT-3.1.4-2; MQTT 3.1.1:
// MQTT-3.2.2-5].
func (c *conn) refuseConnect(code byte, why error) error {
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
			return why
		}
	}
	raw, err := wire.Append(nil, wire.Connack, wire.Packet{ProtocolVersion: c.version, ReasonCode: code})
	if err == nil {
		c.answered = true
		_ = c.raw.SetWriteDeadline(time.Now().Add(goodbyeTime))
		_, _ = c.raw.Write(raw)
	}
	if see := c.e.trace.Load(); see != nil && c.who != nil {
		(*see)(Traced{Client: *c.who, Out: true, Kind: wire.Connack, Code: code, Refused: true, Words: why.Error()})
	}
	return why
}

// connect decides about a CONNECT.
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
			return c.refuseConnect(wire.ClientIdentifierNotValid, errors.New("a kept session needs a client id")) // [MQTT 3.1.1: MQTT-3.1.3-8]
		}
		assigned = newID()
		p.ClientIdentifier = assigned
	}
	if len(p.ClientIdentifier) > c.e.limits.MaxTopicLength {
		return c.refuseConnect(wire.ClientIdentifierNotValid, errors.New("the client id is too long"))
	}
	client := Client{
		ID: p.ClientIdentifier, User: string(p.Username), HasUser: p.UsernameFlag,
		Listener: c.listener, Remote: c.remote, Version: c.version, Assigned: assigned != "",
	}
	if certified, ok := c.raw.(Certified); ok {
		client.Certificate = certified.Certificate()
		if client.Certificate != "" && !client.HasUser {
			client.User, client.HasUser = client.Certificate, true
		}
	}
	if c.e.ask.Nameless != nil && client.HasUser && client.Certificate == "" && c.e.ask.Nameless(client) {
		client.User, client.HasUser = "", false
	}
	c.who = &client
	if see := c.e.trace.Load(); see != nil {
		(*see)(tracedConnect(&client, pk))
	}
	if ask := c.e.ask.Authenticate; ask != nil {
		if err := ask(client, client.User, client.HasUser, p.Password); err != nil {
			c.reported = true
			return c.refuseConnect(connectCode(err), fmt.Errorf("client %q: %w", client.ID, err))
		}
	}
	w := c.newWill(pk)
	if w != nil {
		if len(w.m.Topic) > c.e.limits.MaxTopicLength || levels([]byte(w.m.Topic)) > c.e.limits.MaxTopicLevels {
			return c.refuseConnect(wire.TopicNameInvalid, errors.New("its will has a topic beyond the limits"))
		}
		if w.m.Properties.HasPayloadFormat && w.m.Properties.PayloadFormat == 1 && !validText(w.m.Payload) {
			return c.refuseConnect(wire.PayloadFormatInvalid, errors.New("its will is not the text it says it is"))
		}
	}
	if w != nil && !c.e.allow(&client, ActionPublish, w.m.Topic) {
		c.e.noticed(&client, w.m.Topic, "its will is dropped: it may not publish there")
		w = nil
	}
	return c.attach(pk, client, assigned, w)
}

func connectCode(err error) byte {
	switch {
	case errors.Is(err, ErrBadCredentials):
		return wire.BadUserNameOrPassword
	case errors.Is(err, ErrNotItsID):
		return wire.ClientIdentifierNotValid
	case errors.Is(err, ErrBusy):
		return wire.ServerBusy
	}
	return wire.NotAuthorized
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return "auto-" + hex.EncodeToString(b[:])
}

// keepAlive is how long the client may be silent, and whether that is not what
// it asked for.
func (c *conn) keepAlive(asked uint16) (seconds uint16, lowered bool) {
	most := c.e.limits.MaxKeepAlive / time.Second
	if most == 0 || c.version != wire.V5 || asked != 0 && time.Duration(asked) <= most {
		return asked, false
	}
	return uint16(min(most, 65535)), true
}

// attach gives the connection its session: the one that is kept, or a new one.
// A connection that has it until now is ended first [MQTT-3.1.4-3].
func (c *conn) attach(pk *wire.Packet, client Client, assigned string, w *will) error {
	e, p := c.e, &pk.Connect
	var wish uint32
	switch {
	case c.version == wire.V5:
		wish = pk.Properties.SessionExpiryInterval
	case !p.Clean:
		wish = store.NeverExpires
	}
	expiry := e.expiry(wish)
	answer := wire.Packet{ProtocolVersion: c.version}
	props := &answer.Properties
	props.AssignedClientID = assigned
	if c.version == wire.V5 {
		if expiry != wish {
			props.SessionExpiryInterval, props.SessionExpiryIntervalFlag = expiry, true
		}
		props.ReceiveMaximum = uint16(e.limits.MaxInflight)
		props.MaximumPacketSize = uint32(e.limits.MaxPacket)
		props.TopicAliasMaximum = e.limits.TopicAliasMaximum
	}
	seconds, lowered := c.keepAlive(p.Keepalive)
	props.ServerKeepAlive, props.ServerKeepAliveFlag = seconds, lowered
	c.silence = time.Duration(seconds) * time.Second * 3 / 2 // [MQTT-3.1.2-22; MQTT 3.1.1: MQTT-3.1.2-24]
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

	c.account = e.accountOf(&client)
	if c.account != nil && (expiry > 0 || w != nil) {
		switch ok, err := c.await(sessionCost(&client, w), connectPatience); {
		case err != nil:
			return err
		case !ok:
			return c.refuseUser(errTooMuchWritten)
		}
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return c.refuseConnect(wire.ServerUnavailable, errors.New("the server ends"))
	}
	old := e.sessions[client.ID]
	ended, err := e.makeRoom(&client, old)
	if err == nil {
		var more []*session
		more, err = e.makeMemory(e.usageOf(&client), sessionMemory(&client)+c.cost()+w.memory(), old)
		ended = append(ended, more...)
	}
	if err != nil {
		e.mu.Unlock()
		for _, s := range ended {
			s.dismiss()
		}
		return c.refuseUser(err)
	}
	var due *will // of the connection or session that ends here
	s := old
	if old != nil {
		due = old.takeOver()
		if p.Clean || old.isGone() {
			s = nil
			old.remove()
			ended = append(ended, old)
		}
	}
	present := s != nil
	if !present {
		if expiry > 0 {
			ended = append(ended, e.thin()...)
		}
		s = &session{e: e, id: client.ID}
		e.sessions[client.ID] = s
		e.stats.most.Store(max(e.stats.most.Load(), int64(len(e.sessions))))
	}
	s.mu.Lock()
	before := s.client.Swap(&client)
	s.bill(&client)
	if before != nil {
		s.hold(-sessionMemory(before))
	}
	s.hold(sessionMemory(&client))
	s.account.Store(c.account)
	s.bridge = c.bridge
	s.expiry = expiry
	s.setWill(w)
	s.left, s.severed = time.Time{}, false
	s.remember()
	s.mu.Unlock()
	e.mu.Unlock()
	for _, s := range ended {
		s.dismiss()
	}
	if due != nil {
		e.sendWill(due) // before anything that the new connection says
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.conn != nil { // another connection was quicker
		return errors.New("taken over before it began")
	}
	c.s = s
	c.aliasMax = pk.Properties.TopicAliasMaximum
	c.greeted.Store(true)
	s.conn = c
	s.online.Store(true)
	c.memory = c.cost()
	s.hold(c.memory)
	s.stopTimerLocked()
	answer.SessionPresent = present && c.version != wire.V31 // [MQTT-3.2.2-2, -3]
	raw, _ = wire.Append(nil, wire.Connack, answer)          // as before, but for a bit
	c.put(packet{raw: raw})
	s.resume(window, before)
	c.heard.Store(int64(e.now()))
	c.timer.Stop()
	if c.silence > 0 {
		c.timer = time.AfterFunc(c.silence, c.listen)
	}
	s.wake()
	e.stats.connects.Add(1)
	e.log.Debug("connected", "client", s.id, "user", client.User, "remote", c.remote, "version", c.version, "session present", present)
	return nil
}

// remember tells the store of a session that got a connection. Of one that ends
// with it only the will outlasts the server, to be sent where the client is not
// back after a restart [MQTT-3.1.2-8]. The caller holds the mutex.
func (s *session) remember() {
	e := s.e
	if e.store == nil {
		return
	}
	lasts := s.expiry > 0
	if s.known && !lasts {
		e.store.Append([]store.Record{store.SessionGone{Client: s.id}}, nil)
		s.forgetStored()
	}
	s.durable, s.known = lasts, lasts || s.will != nil
	if !s.known {
		return
	}
	records := []store.Record{s.record(), store.Will{Client: s.id}}
	if w := s.will; w != nil {
		records[1] = store.Will{Client: s.id, Message: &w.m.Message, Delay: w.delay, Life: w.life}
	}
	e.store.Append(records, nil)
}

// resume sends what the client has not acknowledged (4.4), and drops
// subscriptions that it may not have any more. The caller holds the mutex.
func (s *session) resume(window int, before *Client) {
	s.flow.resume(window)
	if before == nil {
		return
	}
	for i := range s.flow.flights.len() {
		if d := s.flow.flights.at(i); d.phase == store.Releasing && d.stored {
			s.conn.deliver(d)
		}
	}
	s.dropOptions()
	for filter, sub := range s.subs {
		if s.e.allow(s.client.Load(), ActionSubscribe, filter) {
			continue
		}
		s.unsubscribe(sub)
		s.append([]store.Record{store.Unsubscribe{Client: s.id, Filter: filter}}, nil)
	}
	if now := s.client.Load(); before.User != now.User || before.HasUser != now.HasUser || before.Listener != now.Listener {
		s.e.AccessChanged()
	}
}

// dropOptions takes the options of MQTT 5 from the subscriptions of a session that
// goes on in an older version, and from what is queued for them: there RETAIN is
// 0 on what goes to an existing subscription [MQTT 3.1.1: MQTT-3.3.1-9], and a
// client gets its own messages. The caller holds the mutex.
func (s *session) dropOptions() {
	if s.conn.version == wire.V5 || s.bridge {
		return
	}
	var changed []*subscription
	for _, sub := range s.subs {
		if sub.asPub || sub.noLocal {
			changed = append(changed, sub)
		}
	}
	var records []store.Record
	for _, old := range changed {
		sub := *old
		sub.asPub, sub.noLocal = false, false
		s.subscribe(&sub)
		records = append(records, sub.record(s.id))
	}
	for i := range s.flow.queue.len() {
		s.flow.queue.at(i).retain = false
	}
	s.append(records, nil)
}

// listen ends a connection that was silent for too long.
func (c *conn) listen() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.waiting.Load() > ahead { // it is us who do not listen
		c.heard.Store(int64(c.e.now()))
	}
	left := time.Duration(c.heard.Load()) + c.silence - c.e.now()
	if left > 0 && !c.ending {
		c.timer.Reset(left)
		return
	}
	c.end(wire.KeepAliveTimeout, "it was silent for longer than its keep alive")
}
