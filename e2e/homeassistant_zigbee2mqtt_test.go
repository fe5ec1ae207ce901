package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/devices/devicestest"
	"github.com/jmbarzee/dominion/topics"
)

// The real Zigbee2MQTT, of which the radio alone is replaced, announces its
// devices below a base topic of two levels: what dominionctl lists is what the
// real Home Assistant has, and a device that is not announced to that.
func TestHomeAssistantZigbee2MQTT(t *testing.T) {
	home := onEmbedded(t)
	w := &registryWatcher{homeAssistant: newHomeAssistant(t, home.Host("homeassistant")), home: home}
	needs(t, "node", "npm")
	if err := command("node", "-e", "process.exit(Number(process.versions.node.split('.')[0]) < 20)"); err != nil {
		t.Skip("needs Node.js 20 for Zigbee2MQTT")
	}
	modules := filepath.Join(fetched(t, "zigbee2mqtt-2.14.1", func(dir string) *exec.Cmd {
		return exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "zigbee2mqtt@2.14.1")
	}), "node_modules")
	home.Configure("")
	home.StartHub()
	w.Start()
	w.AddMQTT(home.Hub.Address())
	w.Until(wellAgain, "the hub is there", func(s haStates) bool { return s.Is("on", "binary_sensor.dominion_ready") })

	zigbee := startZigbee2MQTT(t, home, modules)
	const unannounced = "0x00158d0000000003"
	online := func(v View) bool {
		return v.availability("0x00158d0000000001") == topics.Online && v.availability("0x0017880100000002") == topics.Offline &&
			v.availability(unannounced) == topics.Online
	}
	o := home.Observe()
	o.Until("the hub has the devices", online)
	agree := func(when string) {
		t.Helper()
		var rest []string
		defer func() {
			for _, d := range rest {
				t.Log(d)
			}
		}()
		eventuallyWithin(t, time.Minute, when+" the list is what Home Assistant has, and the device that it has not", func() bool {
			w.messages = nil
			for topic, m := range o.Latest() {
				if m.Payload != "" && !strings.HasPrefix(topic, "homeassistant/device/dominion") {
					w.messages = append(w.messages, devicestest.Message{Topic: topic, Payload: m.Payload})
				}
			}
			rest = nil
			found := false
			for _, d := range devicestest.Differences(w.listed(), w.registry(), w.messages) {
				if d.Device == unannounced && d.Field == "listed" && d.Ours == topics.ByZigbee2MQTT {
					found = true
					continue
				}
				rest = append(rest, d.String())
			}
			return found && len(rest) == 0
		})
	}
	agree("while Zigbee2MQTT runs")

	zigbee.Kill()
	o.Until("its devices are offline", func(v View) bool { return v.availability(unannounced) == topics.Offline })
	agree("after Zigbee2MQTT was killed")
	if bad, _ := w.Complaints(0); len(bad) > 0 {
		t.Errorf("Home Assistant complains:\n%s", strings.Join(bad, "\n"))
	}
}

// startZigbee2MQTT starts it on a host of its own, with the devices of
// testdata/zigbee2mqtt.
func startZigbee2MQTT(t *testing.T, home *Home, modules string) *Process {
	t.Helper()
	host := home.Host("zigbee")
	put := func(name string, replaced ...string) string {
		b, err := os.ReadFile(filepath.Join("testdata", "zigbee2mqtt", name))
		home.must(err)
		file := filepath.Join(host.Dir, name)
		home.must(writeFile(file, strings.NewReplacer(replaced...).Replace(string(b))))
		return file
	}
	put("configuration.yaml", "BROKER", home.Hub.Address())
	put("database.db", "NOW", fmt.Sprint(time.Now().UnixMilli()))
	radio := put("radio.cjs")
	p := host.Start("env", "Z2M_MODULES="+modules, "ZIGBEE2MQTT_DATA="+host.Dir,
		"node", "--require", radio, filepath.Join(modules, "zigbee2mqtt", "index.js"))
	p.AwaitLog("Zigbee2MQTT started!")
	return p
}
