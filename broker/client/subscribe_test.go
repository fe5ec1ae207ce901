package client

import (
	"errors"
	"slices"
	"testing"
)

// A broker that has no leader for its deliveries of QoS 1 refuses what it grants at
// QoS 0. It is asked for QoS 1 once per connection, and not where the session is to
// outlive the connection or the broker says why it refuses.
func TestRefusedAtQoS1(t *testing.T) {
	for name, c := range map[string]struct {
		refuses, suback byte
		keep            bool
		sent            int // SUBSCRIBE packets for two filters
		err             error
	}{
		"granted":                          {sent: 2},
		"refused at QoS 1":                 {refuses: 0x80, sent: 3},
		"implementation specific":          {refuses: 0x83, sent: 3},
		"refused at both":                  {refuses: 0x80, suback: 0x80, sent: 2, err: ErrRefused},
		"not authorized":                   {refuses: 0x87, sent: 1, err: ErrRefused},
		"the session is to outlive it":     {refuses: 0x80, keep: true, sent: 1, err: ErrRefused},
		"a session to outlive it, granted": {keep: true, sent: 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBothVersions(t, func(t *testing.T, version byte) {
				p := &peer{version: version, refuses: c.refuses, suback: c.suback}
				conn, err := Connect(t.Context(), Options{Dial: p.dial, ClientID: "c", Persistent: c.keep, Version: version})
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := conn.Subscribe(t.Context(), "a", "b"); !errors.Is(err, c.err) {
					t.Errorf("%v, want %v", err, c.err)
				}
				if n := p.count("SUBSCRIBE:"); n != c.sent {
					t.Errorf("%d SUBSCRIBE packets, want %d: %v", n, c.sent, slices.Clone(p.received))
				}
			})
		})
	}
}
