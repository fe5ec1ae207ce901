package devices

import (
	"encoding/json"
	"maps"
	"slices"
)

// ofChild are the keys of a child device beside its components: a closed list.
var ofChild = []string{"identifiers", "name"}

// children checks the child devices of a device, which are there in place of its
// components or beside them.
func (l *linter) children(root object) {
	for n, raw := range listOf(root["child_devices"]) {
		if n >= maxChildren {
			break
		}
		c := objectOf(raw, nil)
		components := objectOf(c["components"], nil)
		if c != nil && components == nil {
			l.fault("child_devices.components is missing or no object")
		}
		delete(c, "components")
		l.child("child_devices", c)
		for n, id := range slices.Sorted(maps.Keys(components)) {
			if n >= maxComponents {
				break
			}
			l.component(root, cut(id, maxText/2), components[id])
		}
	}
}

// child checks the description of one child device.
func (l *linter) child(at string, c object) {
	if c == nil {
		l.fault("%s is not an object", at)
		return
	}
	l.closed(at, c, ofChild)
	ids := listOf(c["identifiers"])
	if len(ids) == 0 {
		l.fault("%s.identifiers is missing", at)
	}
	for _, one := range ids {
		l.text(at+".identifiers", one)
	}
	l.text(at+".name", c["name"])
}

// childOf checks the child device that the device of a single entity has, and
// takes it out of the device.
func (l *linter) childOf(root object) {
	device := objectOf(root["device"], nil)
	raw, there := device["child_device"]
	if !there {
		return
	}
	l.child("device.child_device", objectOf(raw, nil))
	if root["unique_id"] == nil {
		l.fault("unique_id is missing: an entity of a child device needs it")
	}
	delete(device, "child_device")
	if rest, err := json.Marshal(device); err == nil {
		root["device"] = rest
	}
}
