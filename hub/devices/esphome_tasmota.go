package devices

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// esphome reads what a node answers to esphome/discover, and publishes by itself
// each time it connects (esphome/components/mqtt/mqtt_client.cpp). Where its
// topics are it does not say; unless it was told otherwise they are below its
// name.
func (s *State) esphome(topic, node string, payload []byte) (*announcement, error) {
	a := newAnnouncement(topic, topics.ByESPHome)
	var mac, name, friendly, project, projectVersion, board, platform string
	to := map[string]*string{
		"mac": &mac, "name": &name, "friendly_name": &friendly, "version": &a.version, "board": &board,
		"platform": &platform, "project_name": &project, "project_version": &projectVersion,
	}
	if err := readTexts(payload, to); err != nil {
		return nil, err
	}
	k, ok := keyOfMAC(mac)
	if !ok {
		return nil, fmt.Errorf("its mac is %q, which is not a MAC address", cut(mac, maxText))
	}
	a.key(k)
	a.connections = []topics.DeviceConnection{{Type: "mac", Address: colons(k)}}
	a.name = firstOf(friendly, name, node)
	a.model = firstOf(board, platform)
	if maker, model, ok := strings.Cut(project, "."); ok {
		a.manufacturer, a.model = maker, model
	}
	if projectVersion != "" {
		a.version = cut(projectVersion+" (ESPHome "+a.version+")", maxText)
	}
	err := s.watch(a, item{topic: firstOf(name, node) + "/status", online: topics.Online, offline: topics.Offline, optional: true})
	return a, err
}

// tasmota reads tasmota/discovery/<MAC>/config and /sensors
// (tasmota/tasmota_xdrv_driver/xdrv_12_discovery.ino). The second has no more
// than that the device is there, and what it measures.
func (s *State) tasmota(topic, id, kind string, payload []byte) (*announcement, error) {
	a := newAnnouncement(topic, topics.ByTasmota)
	k, ok := keyOfMAC(id)
	if !ok {
		return nil, errors.New("its topic has no address of a network card")
	}
	a.key(k)
	a.connections = []topics.DeviceConnection{{Type: "mac", Address: colons(k)}}
	if kind == "sensors" {
		return a, readTexts(payload, nil)
	}
	c, err := readTasmota(payload, a)
	if err != nil {
		return nil, err
	}
	if said, ok := keyOfMAC(c.mac); !ok || said != k {
		return nil, fmt.Errorf("its mac is %q, its topic that of another device", cut(c.mac, maxText))
	}
	if len(c.prefixes) < 3 || c.topic == "" || c.full == "" {
		return nil, errors.New("it does not say where its topics are (t, ft, tp)")
	}
	a.name = firstOf(a.name, c.friendly, c.host)
	a.manufacturer = "Tasmota"
	at := func(prefix int, what string) string {
		root := strings.NewReplacer("%prefix%", c.prefixes[prefix], "%topic%", c.topic, "%hostname%", c.host, "%id%", strings.ToUpper(string(k[len(k)-6:]))).Replace(c.full)
		return strings.TrimSuffix(root, "/") + "/" + what
	}
	a.topic(&a.state, at(1, "RESULT"))
	a.topic(&a.state, at(2, "STATE"))
	a.topic(&a.state, at(2, "SENSOR"))
	for n := range c.relays {
		if c.relays == 1 {
			a.topic(&a.command, at(0, "POWER"))
		} else {
			a.topic(&a.command, at(0, fmt.Sprintf("POWER%d", n+1)))
		}
	}
	return a, s.watch(a, item{topic: at(2, "LWT"), online: firstOf(c.online, "Online"), offline: firstOf(c.offline, "Offline")})
}

// tasmotaConfig is what a config of Tasmota has beside what the device is.
type tasmotaConfig struct {
	mac, host, friendly string
	// topic and full are its own name in topics, and how these are made.
	topic, full string
	// prefixes are those of commands, states and telemetry.
	prefixes        []string
	online, offline string
	relays          int
}

// readTasmota reads a config of Tasmota: what the device is into a, the rest into c.
func readTasmota(payload []byte, a *announcement) (c tasmotaConfig, err error) {
	ip := ""
	to := map[string]*string{
		"mac": &c.mac, "hn": &c.host, "ft": &c.full, "t": &c.topic, "onln": &c.online, "ofln": &c.offline,
		"dn": &a.name, "md": &a.model, "sw": &a.version, "ip": &ip,
	}
	err = readObject(payload, func(r *reader, key string) error {
		switch key {
		case "fn":
			return r.texts(func(s string) error {
				c.friendly = firstOf(c.friendly, cut(s, maxText))
				return nil
			})
		case "tp":
			return r.texts(func(s string) error {
				if len(c.prefixes) < 3 {
					c.prefixes = append(c.prefixes, cut(s, maxText))
				}
				return nil
			})
		case "rl":
			return r.texts(func(s string) error {
				if s != "0" && c.relays < maxTopics {
					c.relays++
				}
				return nil
			})
		}
		return member(r, to, key)
	})
	a.page = pageAt(ip)
	return c, err
}

// pageAt returns the page that a device serves at its address, "" where that is
// no address of a machine.
func pageAt(ip string) string {
	address, err := netip.ParseAddr(ip)
	if err != nil || address.Zone() != "" || !address.IsGlobalUnicast() && !address.IsLinkLocalUnicast() {
		return ""
	}
	return "http://" + strings.TrimSuffix(netip.AddrPortFrom(address, 0).String(), ":0") + "/"
}

// readTexts reads the members of an object that to has.
func readTexts(payload []byte, to map[string]*string) error {
	return readObject(payload, func(r *reader, key string) error { return member(r, to, key) })
}

// member reads a member into the place that there is for it, or skips it.
func member(r *reader, to map[string]*string, key string) error {
	if to[key] == nil {
		return r.skip()
	}
	text, err := r.text()
	*to[key] = cut(text, maxText)
	return err
}

func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// colons writes a key that is the address of a network card as people do.
func colons(k key) string {
	var b strings.Builder
	for i, digit := range k[1:] {
		if i > 0 && i%2 == 0 {
			b.WriteByte(':')
		}
		b.WriteRune(digit)
	}
	return b.String()
}
