package devices

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Shelly devices of the first generation publish below shellies/<id>/, and announce
// themselves at shellies/announce when they connect. Those of later generations
// publish below a prefix, which is their id unless somebody chose another one. Of
// all of them only <base>/online is retained, so a device whose prefix is its id
// is there at once, and the rest of it when it connects the next time.

var shellyFilters = []string{
	"shellies/+/announce", "shellies/+/info", "shellies/+/online",
	"+/announce", "+/online", "+/events/rpc",
}

// shellyID is the id of a Shelly: of later generations with the whole address of
// its network card at the end, of the first with three bytes of it, or six.
var shellyID = regexp.MustCompile(`^[Ss][Hh][Ee][Ll][Ll][Yy][0-9A-Za-z-]*-([0-9A-Fa-f]{12}|[0-9A-Fa-f]{6})$`)

const (
	sharedAnnounce = "shellies/announce"
	shared         = "shared announce"
)

// shellyPart returns the device and the part that a topic is of.
func shellyPart(levels []string, payload []byte) (c convention, base, name string) {
	switch n := len(levels); {
	case n == 2 && levels[0] == "shellies" && levels[1] == "announce":
		return shellyShared(payload)
	case n == 3 && levels[0] == "shellies" && levels[1] != "" && (levels[2] == "announce" || levels[2] == "info" || levels[2] == "online"):
		return shelly{first: true}, "shellies/" + levels[1], levels[2]
	case n == 2 && levels[0] != "" && (levels[1] == "announce" || levels[1] == "online"):
		return shelly{}, levels[0], levels[1]
	case n == 3 && levels[0] != "" && levels[1] == "events" && levels[2] == "rpc":
		return shelly{}, levels[0], "rpc"
	}
	return nil, "", ""
}

// shellyShared returns the device that an announcement at the topic of all is of.
func shellyShared(payload []byte) (c convention, base, name string) {
	p, _, err := shelly{}.read(shared, payload)
	id := p.fields["id"]
	if len(payload) == 0 || err != nil || id == "" || strings.ContainsAny(id, "/+#") {
		return shelly{first: true}, sharedAnnounce, shared
	}
	if p.fields["gen"] != "" && p.fields["gen"] != "1" {
		return shelly{}, id, shared
	}
	return shelly{first: true}, "shellies/" + id, shared
}

// shelly is the convention of Shelly, of the first generation or of later ones.
type shelly struct{ first bool }

// read reads the part that a topic has. events/rpc and online may be of something else.
func (c shelly) read(name string, payload []byte) (part, bool, error) {
	p := part{fields: make(map[string]string)}
	take := func(keys ...string) func(*reader, string) error {
		return func(r *reader, key string) error {
			for _, k := range keys {
				if k == key {
					text, err := r.text()
					if text != "" {
						p.fields[k] = cut(text, maxText)
					}
					return err
				}
			}
			return r.skip()
		}
	}
	inside := func(r *reader, keys ...string) error {
		_, err := r.object(func(key string) error { return take(keys...)(r, key) })
		return err
	}
	var err error
	switch name {
	case "online":
		p.text = string(payload)
		return p, p.text == "true" || p.text == "false", nil // else it is of something else
	case "announce", shared:
		err = readObject(payload, take("id", "name", "mac", "model", "app", "gen", "ver", "fw_ver", "ip"))
	case "info":
		err = readObject(payload, func(r *reader, key string) error {
			if key == "wifi_sta" {
				return inside(r, "ip")
			}
			return take("mac")(r, key)
		})
	default: // events/rpc
		err = readObject(payload, func(r *reader, key string) error {
			if key != "params" {
				return take("src")(r, key)
			}
			_, err := r.object(func(key string) error {
				switch key {
				case "sys":
					return inside(r, "mac")
				case "wifi":
					return inside(r, "sta_ip")
				case "eth":
					return inside(r, "ip")
				}
				return r.skip()
			})
			return err
		})
	}
	ours := shellyID.MatchString(firstOf(p.fields["id"], p.fields["src"]))
	switch {
	case !c.first && !ours: // of something else that has such a topic
		return p, false, nil
	case name != shared:
		return p, true, err
	case err == nil && (p.fields["id"] == "" || strings.ContainsAny(p.fields["id"], "/+#")):
		return p, true, fmt.Errorf("its id is %q, which is not a valid id", p.fields["id"])
	}
	return p, true, err
}

// repeats reports whether a message of events/rpc has nothing new. A device that
// measures sends one every few seconds.
func (shelly) repeats(had part, name string, payload []byte) bool {
	return name == "rpc" && bytes.Contains(payload, []byte(had.fields["src"])) && !bytes.Contains(payload, []byte(`"NotifyFullStatus"`))
}

func (shelly) availability() string { return "online" }

// announce makes a device of its parts, once its id is there.
func (c shelly) announce(s *State, base string, parts map[string]part) (*announcement, error) {
	own := strings.TrimPrefix(base, "shellies/")
	announced, rpc := parts["announce"], parts["rpc"]
	if announced.fields == nil {
		announced = parts[shared]
	}
	id := firstOf(announced.fields["id"], rpc.fields["src"])
	if id == "" && (!c.first && shellyID.MatchString(own) || parts["info"].fields["mac"] != "") {
		id = own // of the first generation without an address it could be one that others announce, too
	}
	if id == "" {
		return nil, nil
	}
	a := newAnnouncement(base, topics.ByShelly)
	if err := a.identifier(id); err != nil {
		return nil, err
	}
	mac := firstOf(announced.fields["mac"], rpc.fields["mac"], parts["info"].fields["mac"], id[strings.LastIndexByte(id, '-')+1:])
	if k, ok := keyOfMAC(mac); ok {
		a.key(k)
		a.connections = []topics.DeviceConnection{{Type: "mac", Address: colons(k)}}
	}
	a.name = announced.fields["name"]
	a.manufacturer = "Shelly"
	if a.model = announced.fields["app"]; a.model != "" {
		a.modelID = announced.fields["model"]
	} else {
		a.model = announced.fields["model"]
	}
	if shellyID.MatchString(id) {
		a.kind = id[:strings.LastIndexByte(id, '-')]
	}
	a.version = firstOf(announced.fields["ver"], announced.fields["fw_ver"])
	a.page = pageAt(firstOf(rpc.fields["sta_ip"], rpc.fields["ip"], announced.fields["ip"], parts["info"].fields["ip"]))
	if c.first {
		a.topic(&a.state, base+"/info")
		a.topic(&a.command, base+"/command")
	} else {
		a.topic(&a.state, base+"/events/rpc")
		a.topic(&a.command, base+"/rpc")
	}
	return a, s.watch(a, item{topic: base + "/online", online: "true", offline: "false"})
}
