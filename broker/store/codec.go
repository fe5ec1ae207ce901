package store

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// version is the format of a batch. The log consists of batches, each made by one
// Append or by compaction. A batch is a version and items; an item is a kind, a serial
// and fields. The serial identifies an item: one that is moved keeps it.
const version = 1

// itemKind is the type of an item.
type itemKind byte

// The kinds of item. Their numbers are on disk and must never get another meaning.
const (
	itemMessage itemKind = iota + 1
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
	// itemExpiringWill is an itemWill with an ExpiryInterval.
	itemExpiringWill
	// itemSharedEnqueue is an itemEnqueue with a Shared filter.
	itemSharedEnqueue
)

// item is a decoded item. Only the fields of its kind are set. record has no Message:
// messageSerial refers to it.
type item struct {
	kind   itemKind
	serial uint64
	// messageSerial is the serial of the message: of the item itself, or the one that
	// it refers to.
	messageSerial uint64
	record        Record
	// raw is the encoded item, valid as long as the batch.
	raw []byte
}

// removes reports whether the item only removes something.
func (it item) removes() bool {
	switch it.kind {
	case itemRetainGone, itemSessionGone, itemUnsubscribe, itemDequeue, itemReleased, itemWillGone:
		return true
	}
	return false
}

// encoder appends to bytes; each method appends one type of field.
type encoder []byte

func (w *encoder) byte(b byte)     { *w = append(*w, b) }
func (w *encoder) number(n uint64) { *w = binary.AppendUvarint(*w, n) }
func (w *encoder) string(s string) { w.number(uint64(len(s))); *w = append(*w, s...) }

func (w *encoder) bytes(b []byte) { w.number(uint64(len(b))); *w = append(*w, b...) }

// time encodes the nanoseconds since 1970 plus one; 0 is the zero time.
func (w *encoder) time(t time.Time) {
	if t.IsZero() {
		w.number(0)
		return
	}
	w.number(uint64(max(t.UnixNano(), 0)) + 1)
}

// begin appends what all items begin with.
func (w *encoder) begin(k itemKind, serial uint64) { w.byte(byte(k)); w.number(serial) }

// flagBits returns a byte with a bit for each flag, the first the lowest.
func flagBits(b ...bool) (f byte) {
	for i, set := range b {
		if set {
			f |= 1 << i
		}
	}
	return f
}

// message appends an itemMessage.
func (w *encoder) message(serial uint64, m *Message) {
	p := &m.Properties
	w.begin(itemMessage, serial)
	w.byte(flagBits(m.Retain, p.HasPayloadFormat, p.HasContentType, p.Correlation != nil) | m.QoS<<4)
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

// record appends the item of a record without its message, which messageSerial refers
// to.
func (w *encoder) record(serial, body uint64, r Record) {
	switch r := r.(type) {
	case Retain:
		if r.Message == nil {
			w.begin(itemRetainGone, serial)
			w.string(r.Topic)
			return
		}
		w.begin(itemRetain, serial)
		w.string(r.Topic)
		w.number(body)
	case Session:
		w.begin(itemSession, serial)
		w.string(r.Client)
		w.byte(r.Version)
		w.byte(flagBits(r.HasUser, r.EndedByServer))
		w.string(r.User)
		w.string(r.Listener)
		w.number(uint64(r.Expiry))
		w.time(r.Disconnected)
	case SessionGone:
		w.begin(itemSessionGone, serial)
		w.string(r.Client)
	case Subscribe:
		w.begin(itemSubscribe, serial)
		w.string(r.Client)
		w.string(r.Filter)
		w.byte(flagBits(r.NoLocal, r.RetainAsPublished) | r.QoS<<2 | r.RetainHandling<<4)
		w.number(uint64(r.Identifier))
	case Unsubscribe:
		w.begin(itemUnsubscribe, serial)
		w.string(r.Client)
		w.string(r.Filter)
	case Enqueue:
		k := itemEnqueue
		if r.Shared != "" {
			k = itemSharedEnqueue
		}
		w.begin(k, serial)
		w.string(r.Client)
		w.number(r.Seq)
		w.number(body)
		w.byte(flagBits(r.Retain) | r.QoS<<1)
		w.number(uint64(len(r.Identifiers)))
		for _, id := range r.Identifiers {
			w.number(uint64(id))
		}
		if k == itemSharedEnqueue {
			w.string(r.Shared)
		}
	case Dequeue:
		w.begin(itemDequeue, serial)
		w.string(r.Client)
		w.number(r.Seq)
	case Sent:
		w.begin(itemSent, serial)
		w.string(r.Client)
		w.number(r.Seq)
		w.number(uint64(r.PacketID))
		w.byte(byte(r.Phase))
	case Received:
		w.begin(itemReceived, serial)
		w.string(r.Client)
		w.number(uint64(r.PacketID))
	case Released:
		w.begin(itemReleased, serial)
		w.string(r.Client)
		w.number(uint64(r.PacketID))
	case Will:
		if r.Message == nil {
			w.begin(itemWillGone, serial)
			w.string(r.Client)
			return
		}
		if r.ExpiryInterval == 0 {
			w.begin(itemWill, serial)
		} else {
			w.begin(itemExpiringWill, serial)
		}
		w.string(r.Client)
		w.number(uint64(r.Delay))
		if r.ExpiryInterval != 0 {
			w.number(uint64(r.ExpiryInterval))
		}
		w.number(body)
	}
}

// errFormat means that a batch cannot be decoded.
var errFormat = errors.New("it has an unknown format")

// decoder takes fields off bytes. After the end, or an invalid field, failed is set
// and it returns zeros; this is checked once an item.
type decoder struct {
	b      []byte
	failed bool
}

func (r *decoder) byte() byte {
	if len(r.b) == 0 {
		r.failed = true
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *decoder) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

// raw returns a part of the batch, not a copy.
func (r *decoder) raw() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.failed, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *decoder) string() string { return string(r.raw()) }

// time decodes what encoder.time encodes.
func (r *decoder) time() time.Time {
	n := r.number()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n-1)).UTC()
}

// message decodes what follows kind and serial of an itemMessage. Without build it
// only skips it: most messages of a log are no longer needed.
func (r *decoder) message(build bool) *Message {
	f := r.byte()
	topic, payload, expires := r.raw(), r.raw(), r.time()
	publisher, format, contentType := r.raw(), r.byte(), r.raw()
	response, correlation := r.raw(), r.raw()
	n := r.number()
	if n > uint64(len(r.b)) {
		r.failed = true
		return nil
	}
	var user []UserProperty
	for range n {
		name, value := r.raw(), r.raw()
		if build {
			user = append(user, UserProperty{string(name), string(value)})
		}
	}
	if !build || r.failed {
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

// item decodes one item.
func (r *decoder) item() (it item, err error) {
	start := r.b
	it.kind, it.serial = itemKind(r.byte()), r.number()
	switch it.kind {
	case itemMessage:
		it.messageSerial = it.serial
		r.message(false)
	case itemRetain:
		it.record = Retain{Topic: r.string()}
		it.messageSerial = r.number()
	case itemRetainGone:
		it.record = Retain{Topic: r.string()}
	case itemSession:
		s := Session{Client: r.string(), Version: r.byte()}
		f := r.byte()
		s.HasUser, s.EndedByServer = f&1 != 0, f&2 != 0
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
		it.messageSerial = r.number()
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
	case itemWill, itemExpiringWill:
		w := Will{Client: r.string(), Delay: uint32(r.number())}
		if it.kind == itemExpiringWill {
			w.ExpiryInterval = uint32(r.number())
		}
		it.record = w
		it.messageSerial = r.number()
	case itemWillGone:
		it.record = Will{Client: r.string()}
	default:
		return it, errFormat
	}
	if r.failed {
		return it, errFormat
	}
	it.raw = start[:len(start)-len(r.b)]
	return it, nil
}

// items calls f for each item of a batch. For a batch that cannot be decoded
// completely it is not called at all.
func items(batch []byte, f func(item)) error {
	if len(batch) == 0 || batch[0] != version {
		return errFormat
	}
	var buffer [8]item
	all := buffer[:0]
	for r := (decoder{b: batch[1:]}); len(r.b) > 0; {
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

// decodeMessage decodes the message of an itemMessage.
func decodeMessage(raw []byte) *Message {
	r := decoder{b: raw}
	r.byte()
	r.number()
	return r.message(true)
}
