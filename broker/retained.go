package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jmbarzee/dominion/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// stored is a retained message on disk, readable where it is text.
type stored struct {
	Topic       string `json:"topic"`
	QoS         byte   `json:"qos"`
	Text        string `json:"text,omitempty"`
	Bytes       []byte `json:"bytes,omitempty"` // where it is no text
	ContentType string `json:"content_type,omitempty"`
	Expires     int64  `json:"expires,omitempty"` // Unix seconds; MQTT 5 message expiry
}

type snapshot struct {
	Retained []stored `json:"retained"`
}

func (b *Broker) file() string { return filepath.Join(b.config.DataDir, "retained.json") }

// save keeps the retained messages. Those that are sent again each few seconds
// are of no use after a restart.
func (b *Broker) save() error {
	if b.config.DataDir == "" {
		return nil
	}
	var s snapshot
	for _, pk := range b.engine.Topics.Retained.GetAll() {
		at, _ := b.tree.Parse(pk.TopicName)
		if at.Kind == topics.DomainHeartbeat || at.Kind == topics.DomainMetrics || strings.HasPrefix(pk.TopicName, "$") {
			continue
		}
		m := stored{Topic: pk.TopicName, QoS: pk.FixedHeader.Qos, ContentType: pk.Properties.ContentType}
		if pk.ProtocolVersion == 5 {
			m.Expires = pk.Expiry
		}
		if utf8.Valid(pk.Payload) {
			m.Text = string(pk.Payload)
		} else {
			m.Bytes = pk.Payload
		}
		s.Retained = append(s.Retained, m)
	}
	slices.SortFunc(s.Retained, func(a, b stored) int { return strings.Compare(a.Topic, b.Topic) })
	if err := atomicfile.WriteJSON(b.file(), s); err != nil {
		return fmt.Errorf("the retained messages are lost: %w", err)
	}
	return nil
}

// restore takes back what save kept. The hub is offline until it says
// otherwise.
func (b *Broker) restore() error {
	if b.config.DataDir == "" {
		return nil
	}
	if err := os.MkdirAll(b.config.DataDir, 0o755); err != nil {
		return fmt.Errorf("cannot make data_dir: %w", err)
	}
	s, _, err := atomicfile.ReadJSON[snapshot](b.file(), b.log)
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	for _, m := range s.Retained {
		if m.Topic == "" || m.Expires > 0 && m.Expires <= now {
			continue
		}
		pk := packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: min(m.QoS, 2), Retain: true},
			TopicName:   m.Topic,
			Payload:     m.Bytes,
			Created:     now,
		}
		if m.Bytes == nil {
			pk.Payload = []byte(m.Text)
		}
		if m.Topic == b.tree.Hub(topics.HubAvailability) {
			pk.Payload = []byte(topics.Offline)
		}
		pk.Properties.ContentType = m.ContentType
		if m.Expires > 0 {
			pk.ProtocolVersion, pk.Expiry = 5, m.Expires
		}
		b.engine.Topics.RetainMessage(pk)
	}
	return nil
}
