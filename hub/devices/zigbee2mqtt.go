package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// zigbeeDevice is one device that Zigbee2MQTT lists.
type zigbeeDevice struct {
	*announcement
	address string
	// stick is set for the coordinator, through which the others communicate.
	stick bool
	// off is set where the user has disabled it.
	off bool
}

// zigbeeList reads bridge/devices of Zigbee2MQTT, which describes all its
// devices at once. Each is handed to take.
func (s *State) zigbeeList(topic, base string, payload []byte, take func(*announcement)) error {
	var rows []zigbeeDevice
	var wrong partialError
	stick := ""
	err := read(payload, func(r *reader) error {
		is, err := r.list(func(t json.Token) error {
			if len(rows) >= maxListed {
				wrong.add(fmt.Errorf("it lists more than %d devices", maxListed))
				return r.skipFrom(t)
			}
			row, err := zigbeeRow(r, t, topic)
			switch {
			case errors.Is(err, errNoAddress):
				wrong.add(err)
				return nil
			case err != nil:
				return err
			case row.stick:
				stick = row.address
			}
			rows = append(rows, row)
			return nil
		})
		if err == nil && !is {
			err = errors.New("it is not a list")
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		wrong.add(s.watchZigbee(row, base))
		if !row.stick {
			row.viaDevice(stick)
		}
		take(row.announcement)
	}
	return wrong.err()
}

var errNoAddress = errors.New("it lists something without an ieee_address")

// zigbeeRow reads one element of the list, which began with t.
func zigbeeRow(r *reader, t json.Token, topic string) (zigbeeDevice, error) {
	a := newAnnouncement(topic, topics.ByZigbee2MQTT)
	var address, typ, disabled, model, vendor, description string
	to := map[string]*string{
		"ieee_address": &address, "type": &typ, "friendly_name": &a.name, "software_build_id": &a.version,
		"manufacturer": &a.manufacturer, "model_id": &a.model, "disabled": &disabled,
	}
	definition := map[string]*string{"vendor": &vendor, "description": &description, "model": &model}
	is, err := r.objectFrom(t, func(key string) error {
		if key == "definition" {
			_, err := r.object(func(key string) error { return member(r, definition, key) })
			return err
		}
		return member(r, to, key)
	})
	if err != nil {
		return zigbeeDevice{}, err
	}
	k, ok := keyOfIEEE(address)
	if !is || !ok {
		return zigbeeDevice{}, errNoAddress
	}
	address = string(k[1:])
	a.source = topic + " " + string(k)
	a.key(k)
	a.identifiers = []string{address}
	if vendor != "" || description != "" {
		a.manufacturer, a.model, a.modelID = vendor, firstOf(description, model), model
	}
	return zigbeeDevice{a, address, typ == "Coordinator", disabled == "true"}, nil
}

// watchZigbee adds the topics of availability of a device: that of the
// bridge, and its own where it has one.
func (s *State) watchZigbee(z zigbeeDevice, base string) error {
	a, i := z.announcement, item{topic: base + "/bridge/state", read: readEither, field: "state", online: topics.Online, offline: topics.Offline}
	if z.stick {
		a.name = "Zigbee2MQTT Bridge"
		return s.watch(a, i)
	}
	a.rule.mode = modeAll
	if z.off { // nobody talks to it, so nobody knows
		i.read, i.field = readOffline, ""
	}
	if err := s.watch(a, i); err != nil {
		return err
	}
	if a.name == "" || strings.HasSuffix(a.name, "…") {
		return nil
	}
	i.topic, i.optional = base+"/"+a.name+"/availability", true
	if err := s.watch(a, i); err != nil {
		return err
	}
	a.topic(&a.state, base+"/"+a.name)
	a.topic(&a.command, base+"/"+a.name+"/set")
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
