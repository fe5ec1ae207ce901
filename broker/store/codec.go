package store

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// What is in the log: batches, each what one Append made, or what compaction
// moved. A batch is a version and items; an item is a kind, a serial and
// fields. The serial is an item's identity: one that is moved keeps it.
const version = 1

type kind byte

// The kinds of item. Numbers are on disk: they are never given a new meaning.
const (
	itemMessage kind = iota + 1
	itemRetain
	itemRetainGone
	itemSession
	itemSessionGone
	itemSubscribe
	itemUnsubscribe
	itemEnqueue
	itemDequeue
	itemSent
	itemReceived
	itemReleased
	itemWill
	itemWillGone
	itemMortalWill    // with its Life, which an itemWill has not
	itemSharedEnqueue // with its Shared, which an itemEnqueue has not
)

// item is one decoded item. Only the fields of its kind are set. Record holds
// what a person would call it; its Message, if it has one, is named by body.
type item struct {
	kind   kind
	serial uint64
	body   uint64 // serial of the message: itself, or what it refers to
	record Record
	raw    []byte // all of it, as long as the batch is
}

// removes reports whether the item only takes something away.
func (it item) removes() bool {
	switch it.kind {
	case itemRetainGone, itemSessionGone, itemUnsubscribe, itemDequeue, itemReleased, itemWillGone:
		return true
	}
	return false
}

// writer appends to bytes; each method is one type of field.
type writer []byte

func (w *writer) byte(b byte)     { *w = append(*w, b) }
func (w *writer) number(n uint64) { *w = binary.AppendUvarint(*w, n) }
func (w *writer) string(s string) { w.number(uint64(len(s))); *w = append(*w, s...) }

func (w *writer) bytes(b []byte) { w.number(uint64(len(b))); *w = append(*w, b...) }

// time is written in nanoseconds after 1970, plus one; 0 is the zero time.
func (w *writer) time(t time.Time) {
	if t.IsZero() {
		w.number(0)
		return
	}
	w.number(uint64(max(t.UnixNano(), 0)) + 1)
}

func (w *writer) start(k kind, serial uint64) { w.byte(byte(k)); w.number(serial) }

func flags(b ...bool) (f byte) {
	for i, set := range b {
		if set {
			f |= 1 << i
		}
	}
	return f
}

func (w *writer) message(serial uint64, m *Message) {
	p := &m.Properties
	w.start(itemMessage, serial)
	w.byte(flags(m.Retain, p.HasPayloadFormat, p.HasContentType, p.Correlation != nil) | m.QoS<<4)
	w.string(m.Topic)
	w.bytes(m.Payload)
	w.time(m.Expires)
	w.string(m.Publisher)
	w.byte(p.PayloadFormat)
	w.string(p.ContentType)
	w.string(p.ResponseTopic)
	w.bytes(p.Correlation)
	w.number(uint64(len(p.User)))
	for _, u := range p.User {
		w.string(u.Name)
		w.string(u.Value)
	}
}

// record writes all but messages; body names the one that r has.
func (w *writer) record(serial, body uint64, r Record) {
	switch r := r.(type) {
	case Retain:
		if r.Message == nil {
			w.start(itemRetainGone, serial)
			w.string(r.Topic)
			return
		}
		w.start(itemRetain, serial)
		w.string(r.Topic)
		w.number(body)
	case Session:
		w.start(itemSession, serial)
		w.string(r.Client)
		w.byte(r.Version)
		w.byte(flags(r.HasUser, r.Cut))
		w.string(r.User)
		w.string(r.Listener)
		w.number(uint64(r.Expiry))
		w.time(r.Disconnected)
	case SessionGone:
		w.start(itemSessionGone, serial)
		w.string(r.Client)
	case Subscribe:
		w.start(itemSubscribe, serial)
		w.string(r.Client)
		w.string(r.Filter)
		w.byte(flags(r.NoLocal, r.RetainAsPublished) | r.QoS<<2 | r.RetainHandling<<4)
		w.number(uint64(r.Identifier))
	case Unsubscribe:
		w.start(itemUnsubscribe, serial)
		w.string(r.Client)
		w.string(r.Filter)
	case Enqueue:
		k := itemEnqueue
		if r.Shared != "" {
			k = itemSharedEnqueue
		}
		w.start(k, serial)
		w.string(r.Client)
		w.number(r.Seq)
		w.number(body)
		w.byte(flags(r.Retain) | r.QoS<<1)
		w.number(uint64(len(r.Identifiers)))
		for _, id := range r.Identifiers {
			w.number(uint64(id))
		}
		if k == itemSharedEnqueue {
			w.string(r.Shared)
		}
	case Dequeue:
		w.start(itemDequeue, serial)
		w.string(r.Client)
		w.number(r.Seq)
	case Sent:
		w.start(itemSent, serial)
		w.string(r.Client)
		w.number(r.Seq)
		w.number(uint64(r.PacketID))
		w.byte(byte(r.Phase))
	case Received:
		w.start(itemReceived, serial)
		w.string(r.Client)
		w.number(uint64(r.PacketID))
	case Released:
		w.start(itemReleased, serial)
		w.string(r.Client)
		w.number(uint64(r.PacketID))
	case Will:
		if r.Message == nil {
			w.start(itemWillGone, serial)
			w.string(r.Client)
			return
		}
		if r.Life == 0 {
			w.start(itemWill, serial)
		} else {
			w.start(itemMortalWill, serial)
		}
		w.string(r.Client)
		w.number(uint64(r.Delay))
		if r.Life != 0 {
			w.number(uint64(r.Life))
		}
		w.number(body)
	}
}

var errFormat = errors.New("it is not what this version writes")

// reader takes fields off bytes. Past the end, or at nonsense, it is bad and
// gives zeros: checked once an item.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

// raw gives a part of the batch, not a copy.
func (r *reader) raw() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) string() string { return string(r.raw()) }

func (r *reader) time() time.Time {
	n := r.number()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n-1)).UTC()
}

// message reads what comes after kind and serial. Without build it is skipped:
// most messages of a log are no longer needed.
func (r *reader) message(build bool) *Message {
	f := r.byte()
	topic, payload, expires := r.raw(), r.raw(), r.time()
	publisher, format, contentType := r.raw(), r.byte(), r.raw()
	response, correlation := r.raw(), r.raw()
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	var user []UserProperty
	for range n {
		name, value := r.raw(), r.raw()
		if build {
			user = append(user, UserProperty{string(name), string(value)})
		}
	}
	if !build || r.bad {
		return nil
	}
	m := &Message{
		Topic: string(topic), QoS: f >> 4 & 3, Retain: f&1 != 0,
		Expires: expires, Publisher: string(publisher),
		Properties: Properties{
			HasPayloadFormat: f&2 != 0, PayloadFormat: format,
			HasContentType: f&4 != 0, ContentType: string(contentType),
			ResponseTopic: string(response), User: user,
		},
	}
	if len(payload) > 0 {
		m.Payload = slices.Clone(payload)
	}
	if f&8 != 0 {
		m.Properties.Correlation = append([]byte{}, correlation...)
	}
	return m
}

// item reads one item.
func (r *reader) item() (it item, err error) {
	whole := r.b
	it.kind, it.serial = kind(r.byte()), r.number()
	switch it.kind {
	case itemMessage:
		it.body = it.serial
		r.message(false)
	case itemRetain:
		it.record = Retain{Topic: r.string()}
		it.body = r.number()
	case itemRetainGone:
		it.record = Retain{Topic: r.string()}
	case itemSession:
		s := Session{Client: r.string(), Version: r.byte()}
		f := r.byte()
		s.HasUser, s.Cut = f&1 != 0, f&2 != 0
		s.User, s.Listener = r.string(), r.string()
		s.Expiry, s.Disconnected = uint32(r.number()), r.time()
		it.record = s
	case itemSessionGone:
		it.record = SessionGone{Client: r.string()}
	case itemSubscribe:
		s := Subscribe{Client: r.string(), Filter: r.string()}
		f := r.byte()
		s.NoLocal, s.RetainAsPublished, s.QoS, s.RetainHandling = f&1 != 0, f&2 != 0, f>>2&3, f>>4&3
		s.Identifier = uint32(r.number())
		it.record = s
	case itemUnsubscribe:
		it.record = Unsubscribe{Client: r.string(), Filter: r.string()}
	case itemEnqueue, itemSharedEnqueue:
		e := Enqueue{Client: r.string(), Seq: r.number()}
		it.body = r.number()
		f := r.byte()
		e.Retain, e.QoS = f&1 != 0, f>>1&3
		n := r.number()
		if n > uint64(len(r.b)) {
			return it, errFormat
		}
		for range n {
			e.Identifiers = append(e.Identifiers, uint32(r.number()))
		}
		if it.kind == itemSharedEnqueue {
			e.Shared = r.string()
		}
		it.record = e
	case itemDequeue:
		it.record = Dequeue{Client: r.string(), Seq: r.number()}
	case itemSent:
		it.record = Sent{Client: r.string(), Seq: r.number(), PacketID: uint16(r.number()), Phase: Phase(r.byte())}
	case itemReceived:
		it.record = Received{Client: r.string(), PacketID: uint16(r.number())}
	case itemReleased:
		it.record = Released{Client: r.string(), PacketID: uint16(r.number())}
	case itemWill, itemMortalWill:
		w := Will{Client: r.string(), Delay: uint32(r.number())}
		if it.kind == itemMortalWill {
			w.Life = uint32(r.number())
		}
		it.record = w
		it.body = r.number()
	case itemWillGone:
		it.record = Will{Client: r.string()}
	default:
		return it, errFormat
	}
	if r.bad {
		return it, errFormat
	}
	it.raw = whole[:len(whole)-len(r.b)]
	return it, nil
}

// items calls f for each item of a batch. A batch that is not whole gives none
// of its items.
func items(batch []byte, f func(item)) error {
	if len(batch) == 0 || batch[0] != version {
		return errFormat
	}
	var few [8]item
	all := few[:0]
	for r := (reader{b: batch[1:]}); len(r.b) > 0; {
		it, err := r.item()
		if err != nil {
			return err
		}
		all = append(all, it)
	}
	for _, it := range all {
		f(it)
	}
	return nil
}

// decodeMessage builds the message of an itemMessage's raw bytes.
func decodeMessage(raw []byte) *Message {
	r := reader{b: raw}
	r.byte()
	r.number()
	return r.message(true)
}
