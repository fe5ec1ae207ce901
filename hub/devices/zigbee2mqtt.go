package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// zigbeeList reads bridge/devices of Zigbee2MQTT, which tells of all its
// devices at once. Each is handed to take.
func (s *State) zigbeeList(topic, base string, payload []byte, take func(*announcement)) error {
	type row struct {
		a    *announcement
		self bool // the stick
		off  bool // switched off by the user
	}
	var rows []row
	stick := ""
	err := read(payload, func(r *reader) error {
		is, err := r.list(func(t json.Token) error {
			if len(rows) >= maxListed {
				return fmt.Errorf("it lists more than %d devices", maxListed)
			}
			a := newAnnouncement(topic, topics.ByZigbee2MQTT)
			var address, typ, disabled, model string
			to := map[string]*string{
				"ieee_address": &address, "type": &typ, "friendly_name": &a.name, "software_build_id": &a.version,
				"manufacturer": &a.manufacturer, "model_id": &a.model, "disabled": &disabled,
			}
			var vendor, description string
			definition := map[string]*string{"vendor": &vendor, "description": &description, "model": &model}
			is, err := r.objectFrom(t, func(key string) error {
				if key == "definition" {
					_, err := r.object(func(key string) error { return member(r, definition, key) })
					return err
				}
				return member(r, to, key)
			})
			if err != nil {
				return err
			}
			k, ok := keyOfIEEE(address)
			if !is || !ok {
				return errors.New("it lists something without an ieee_address")
			}
			a.source = topic + " " + string(k)
			a.key(k)
			a.identifiers = []string{string(k[1:])}
			if vendor != "" || description != "" {
				a.manufacturer, a.model, a.modelID = vendor, firstOf(description, model), model
			}
			if typ == "Coordinator" {
				stick = string(k[1:])
			}
			rows = append(rows, row{a, typ == "Coordinator", disabled == "true"})
			return nil
		})
		if err == nil && !is {
			err = errors.New("it is no list")
		}
		return err
	})
	if err != nil {
		return err
	}
	bridge := base + "/bridge/state"
	for _, row := range rows {
		a := row.a
		i := item{topic: bridge, read: readEither, field: "state", online: topics.Online, offline: topics.Offline}
		if row.self {
			if err := s.watch(a, i); err != nil {
				return err
			}
			a.name = "Zigbee2MQTT Bridge"
			take(a)
			continue
		}
		a.rule.mode = modeAll
		if row.off { // nobody talks to it, so nobody knows
			i.read, i.field = readConstant, topics.Offline
		}
		if err := s.watch(a, i); err != nil {
			return err
		}
		own := i
		own.topic, own.optional = base+"/"+a.name+"/availability", true
		if a.name != "" && !strings.HasSuffix(a.name, "…") {
			if err := s.watch(a, own); err != nil {
				return err
			}
			a.topic(&a.state, base+"/"+a.name)
			a.topic(&a.command, base+"/"+a.name+"/set")
		}
		a.viaDevice(stick)
		take(a)
	}
	return nil
}

// maxListed is how many devices one Zigbee2MQTT may list. The protocol has
// addresses for more, its sticks have not.
const maxListed = 1000

// zigbeeInfo reads bridge/info of Zigbee2MQTT: its version, and which stick it
// has.
func (s *State) zigbeeInfo(topic, base string, payload []byte) (*announcement, error) {
	a := newAnnouncement(topic, topics.ByZigbee2MQTT)
	var address, typ string
	to := map[string]*string{"version": &a.version}
	coordinator := map[string]*string{"ieee_address": &address, "type": &typ}
	err := read(payload, func(r *reader) error {
		_, err := r.object(func(key string) error {
			if key == "coordinator" {
				_, err := r.object(func(key string) error { return member(r, coordinator, key) })
				return err
			}
			return member(r, to, key)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	k, ok := keyOfIEEE(address)
	if !ok {
		return nil, errors.New("its coordinator has no ieee_address")
	}
	a.key(k)
	a.identifiers = []string{string(k[1:])}
	a.name, a.manufacturer, a.model = "Zigbee2MQTT Bridge", "Zigbee2MQTT", cut(strings.TrimSpace("Bridge "+typ), maxText)
	return a, s.watch(a, item{topic: base + "/bridge/state", read: readEither, field: "state", online: topics.Online, offline: topics.Offline})
}
