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
	modules := zigbee2mqttModules(t)
	home.Configure("")
	home.StartHub()
	w.Start()
	w.AddMQTT(home.Hub.Address())
	w.Until(wellAgain, "the hub is there", func(s haStates) bool { return s.Is("on", "binary_sensor.dominion_ready") })

	zigbee := startZigbee2MQTT(t, home, modules, "")
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

// A Zigbee2MQTT with 135 dimmers, whose list of devices is one message of megabytes,
// finishes its start at the broker as it is by default, and all are listed.
func TestHomeAssistantZigbee2MQTTOfManyDevices(t *testing.T) {
	home := onEmbedded(t)
	if os.Getenv(homeAssistantVariable) == "" {
		t.Skip("run make e2e-homeassistant")
	}
	modules := zigbee2mqttModules(t)
	home.Configure("")
	home.StartHub()
	const dimmers = 135
	var rows strings.Builder
	for n := range dimmers {
		fmt.Fprintf(&rows, `{"id":%d,"type":"Router","ieeeAddr":"0x9035eafffe%06x","nwkAddr":%d,"manufId":4655,"manufName":"Inovelli","powerSource":"Mains (single phase)","modelId":"VZM31-SN","epList":[1],"endpoints":{"1":{"profId":260,"epId":1,"devId":257,"inClusterList":[0,3,4,5,6,8,1794,2820,64561],"outClusterList":[25],"clusters":{},"binds":[],"configuredReportings":[],"meta":{}}},"swBuildId":"2.18","interviewCompleted":true,"interviewState":"SUCCESSFUL","meta":{},"lastSeen":1764496800000}`+"\n",
			100+n, n, 10_000+n)
	}
	startZigbee2MQTT(t, home, modules, rows.String(), "homeassistant: {enabled: true}", "homeassistant: {enabled: false}", "availability: {enabled: true}", "availability: {enabled: false}")
	o := home.Observe("dominion/device/#")
	o.Until("all dimmers are listed", func(v View) bool {
		n := 0
		for id, d := range v.devices() {
			if strings.HasPrefix(id, "0x9035eafffe") && d.Manufacturer == "Inovelli" && d.Availability == topics.Online {
				n++
			}
		}
		return n == dimmers
	})
	list := home.observer.Exec(nil, "mosquitto_sub", append(home.clientArgs(), "-C", "1", "-t", "house/zigbee/bridge/devices")...)
	size := len(list.Stdout)
	if t.Logf("the list has %d bytes", size); size < 2<<20 {
		t.Errorf("the list has %d bytes, want megabytes", size)
	}
}

// zigbee2mqttModules is the folder of the modules of Zigbee2MQTT, from npm.
func zigbee2mqttModules(t *testing.T) string {
	t.Helper()
	needs(t, "node", "npm")
	if err := command("node", "-e", "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)"); err != nil {
		t.Skip("needs Node.js 20 for Zigbee2MQTT")
	}
	return filepath.Join(fetched(t, "zigbee2mqtt-2.14.1", func(dir string) *exec.Cmd {
		return exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "zigbee2mqtt@2.14.1")
	}), "node_modules")
}

// startZigbee2MQTT starts it on a host of its own, with the devices of
// testdata/zigbee2mqtt and more rows of its database; replaced are pairs of texts of
// its configuration.
func startZigbee2MQTT(t *testing.T, home *Home, modules, rows string, replaced ...string) *Process {
	t.Helper()
	host := home.Host("zigbee")
	put := func(name, more string, replaced ...string) string {
		b, err := os.ReadFile(filepath.Join("testdata", "zigbee2mqtt", name))
		home.must(err)
		file := filepath.Join(host.Dir, name)
		home.must(writeFile(file, strings.NewReplacer(replaced...).Replace(string(b))+more))
		return file
	}
	put("configuration.yaml", "", append(replaced, "BROKER", home.Hub.Address())...)
	put("database.db", rows, "NOW", fmt.Sprint(time.Now().UnixMilli()))
	radio := put("radio.cjs", "")
	p := host.Start("env", "Z2M_MODULES="+modules, "ZIGBEE2MQTT_DATA="+host.Dir,
		"node", "--require", radio, filepath.Join(modules, "zigbee2mqtt", "index.js"))
	p.AwaitLog("Zigbee2MQTT started!")
	return p
}
