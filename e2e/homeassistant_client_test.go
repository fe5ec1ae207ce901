package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// homeAssistant is a real Home Assistant on a host: the folder that
// build/homeassistant.sh made, entered by chroot, with a configuration of the
// test's own. Only who is on the host reaches it.
type homeAssistant struct {
	t       testing.TB
	host    *Host
	root    string // where its folder is mounted
	process *Process
	token   string
	added   bool // MQTT was
	web     *http.Client
	socket  *haSocket
}

// homeAssistantVariable names the folder that build/homeassistant.sh printed.
const homeAssistantVariable = "DOMINION_E2E_HOMEASSISTANT"

const (
	haPort = "8123"
	haURL  = "http://127.0.0.1:" + haPort
	// boots is how long Home Assistant may take to start: it loads half of
	// Python's universe with two cores that others use too.
	boots = 3 * time.Minute
)

var homeAssistants atomic.Int64

// newHomeAssistant gives a host a Home Assistant that nobody has used yet. It
// does not run.
func newHomeAssistant(t testing.TB, host *Host) *homeAssistant {
	t.Helper()
	folder := os.Getenv(homeAssistantVariable)
	if folder == "" {
		t.Skipf("set %s to the folder that build/homeassistant.sh prints, or run make e2e-homeassistant", homeAssistantVariable)
	}
	// not below the test's directory, which is removed with all that is in it;
	// /run is a tmpfs of these namespaces, and the mounts end with them
	a := &homeAssistant{t: t, host: host, root: fmt.Sprintf("/run/homeassistant-%d", homeAssistants.Add(1))}
	configuration := filepath.Join(host.Dir, "conf")
	host.must(errors.Join(os.MkdirAll(a.root, 0o755), os.MkdirAll(configuration, 0o755)))
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{folder, "", "", unix.MS_BIND},
		{"", "", "", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY}, // whatever happens, the cache stays as it is
		{"proc", "proc", "proc", 0},
		{"tmpfs", "tmp", "tmpfs", 0},
		{"tmpfs", "run", "tmpfs", 0},
		{configuration, "conf", "", unix.MS_BIND},
	} {
		if err := unix.Mount(m.source, filepath.Join(a.root, m.target), m.kind, m.flags, ""); err != nil {
			t.Fatalf("cannot mount %q at %s/%s: %v", m.source, a.root, m.target, err)
		}
		if m.flags&unix.MS_REMOUNT == 0 {
			t.Cleanup(func() { host.must(unix.Unmount(filepath.Join(a.root, m.target), unix.MNT_DETACH)) })
		}
	}
	host.must(writeFile(filepath.Join(configuration, "automations.yaml"), "[]\n"))
	host.must(writeFile(filepath.Join(configuration, "configuration.yaml"), `homeassistant:
  name: Home
http:
  server_host: 127.0.0.1
  server_port: `+haPort+`
automation: !include automations.yaml
logger:
  default: warning
  logs:
    homeassistant.components.mqtt: info
`))
	dial := func(_ context.Context, network, address string) (net.Conn, error) { return host.Dial(network, address) }
	a.web = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return a
}

// Start starts it and returns when it says that it runs; the first time it
// gets an owner too.
func (a *homeAssistant) Start() {
	a.t.Helper()
	a.Launch()
	a.AwaitRunning()
}

// Launch starts it, and does not wait.
func (a *homeAssistant) Launch() {
	a.t.Helper()
	a.process = a.host.Start("chroot", a.root, "/usr/bin/env", "HOME=/conf", "PATH=/venv/bin:/usr/bin:/bin",
		"/venv/bin/hass", "-c", "/conf", "--skip-pip", "--log-no-color")
}

// AwaitRunning waits until it runs.
func (a *homeAssistant) AwaitRunning() {
	a.t.Helper()
	began := time.Now()
	if a.token == "" {
		a.onboard()
	}
	var now struct{ State, Version string }
	eventuallyWithin(a.t, boots, "Home Assistant runs", func() bool {
		a.mustRun()
		return a.request(http.MethodGet, "/api/config", nil, &now) == nil && now.State == "RUNNING"
	})
	if a.added { // it runs a while before it has all that MQTT has for it
		a.process.AwaitLog("birth message sent")
	}
	a.t.Logf("Home Assistant %s runs after %v", now.Version, time.Since(began).Round(time.Second))
	a.socket = a.listen()
	a.promoteHTTP()
}

// promoteHTTP confirms the HTTP configuration. Since 2026.11 that of
// configuration.yaml is on trial, and Home Assistant ends itself five minutes
// after its start, to restart with another one, unless it was confirmed.
func (a *homeAssistant) promoteHTTP() {
	a.t.Helper()
	var trial struct {
		Pending  any
		RevertAt *string `json:"revert_at"`
	}
	err := a.socket.ask("http/config", nil, &trial)
	if err != nil && strings.Contains(err.Error(), "unknown_command") {
		return // an earlier version
	}
	if a.must(err); trial.Pending != nil {
		a.Ask("http/config/promote", nil, nil)
		a.Ask("http/config", nil, &trial)
	}
	if trial.Pending != nil || trial.RevertAt != nil {
		a.t.Fatalf("Home Assistant's HTTP configuration is still on trial: %+v", trial)
	}
}

func (a *homeAssistant) mustRun() {
	a.t.Helper()
	if a.process.Ended() {
		a.t.Fatalf("Home Assistant has ended:\n%s", a.process.tail(60))
	}
}

// onboard makes the owner and keeps the token that all else is asked with.
func (a *homeAssistant) onboard() {
	a.t.Helper()
	var user struct {
		Code string `json:"auth_code"`
	}
	eventuallyWithin(a.t, boots, "Home Assistant takes its owner", func() bool {
		a.mustRun()
		return a.request(http.MethodPost, "/api/onboarding/users", map[string]any{
			"client_id": haURL + "/", "name": "Owner", "username": "owner", "password": "of the home", "language": "en",
		}, &user) == nil
	})
	var token struct {
		Access string `json:"access_token"`
	}
	a.must(a.request(http.MethodPost, "/auth/token",
		url.Values{"grant_type": {"authorization_code"}, "code": {user.Code}, "client_id": {haURL + "/"}}, &token))
	a.token = token.Access
}

// AddMQTT adds the MQTT integration by its own dialogue, as a person does;
// fields are more of what it asks for.
func (a *homeAssistant) AddMQTT(broker string, fields ...string) {
	a.t.Helper()
	form := map[string]any{
		"broker": broker, "port": 1883, "protocol": "5",
		"other_settings": map[string]any{"set_client_cert": false, "set_ca_cert": "off", "transport": "tcp"},
	}
	for i := 0; i+1 < len(fields); i += 2 {
		form[fields[i]] = fields[i+1]
	}
	a.addMQTT(form)
}

// AddMQTTS adds the MQTT integration with TLS, a certificate of the broker's authority, which
// is uploaded as a person does, and a user.
func (a *homeAssistant) AddMQTTS(broker, user, password string, authority []byte) {
	a.t.Helper()
	var body bytes.Buffer
	upload := multipart.NewWriter(&body)
	part, err := upload.CreateFormFile("file", "ca.pem")
	a.must(err)
	_, err = part.Write(authority)
	a.must(errors.Join(err, upload.Close()))
	var file struct {
		ID string `json:"file_id"`
	}
	a.must(a.send(http.MethodPost, "/api/file_upload", upload.FormDataContentType(), &body, &file))
	a.addMQTT(map[string]any{
		"broker": broker, "port": 8883, "protocol": "5", "username": user, "password": password,
		"other_settings": map[string]any{"set_client_cert": false, "set_ca_cert": "custom", "certificate": file.ID, "tls_insecure": false, "transport": "tcp"},
	})
}

// addMQTT sends the form of that dialogue.
func (a *homeAssistant) addMQTT(form map[string]any) {
	a.t.Helper()
	var flow struct {
		ID    string `json:"flow_id"`
		Step  string `json:"step_id"`
		Type  string
		Title string
	}
	const flows = "/api/config/config_entries/flow"
	a.must(a.request(http.MethodPost, flows, map[string]any{"handler": "mqtt"}, &flow))
	if flow.Type == "menu" {
		a.must(a.request(http.MethodPost, flows+"/"+flow.ID, map[string]any{"next_step_id": "broker"}, &flow))
	}
	a.must(a.request(http.MethodPost, flows+"/"+flow.ID, form, &flow))
	if flow.Type != "create_entry" {
		a.t.Fatalf("Home Assistant's dialogue for MQTT ends in %+v", flow)
	}
	a.added = true
}

// DiscoverAt sets the prefix of discovery in the options of the integration.
func (a *homeAssistant) DiscoverAt(prefix string) {
	a.t.Helper()
	var entries []struct {
		ID string `json:"entry_id"`
	}
	a.must(a.request(http.MethodGet, "/api/config/config_entries/entry?domain=mqtt", nil, &entries))
	if len(entries) != 1 {
		a.t.Fatalf("%d entries of MQTT", len(entries))
	}
	var flow struct {
		ID   string `json:"flow_id"`
		Type string
	}
	const flows = "/api/config/config_entries/options/flow"
	a.must(a.request(http.MethodPost, flows, map[string]any{"handler": entries[0].ID}, &flow))
	a.must(a.request(http.MethodPost, flows+"/"+flow.ID, map[string]any{
		"discovery": true, "discovery_prefix": prefix, "discovery_qos": "0",
		"birth_enable": true, "birth_topic": "homeassistant/status", "birth_payload": "online", "birth_qos": "0", "birth_retain": false,
		"will_enable": true, "will_topic": "homeassistant/status", "will_payload": "offline", "will_qos": "0", "will_retain": false,
	}, &flow))
	if flow.Type != "create_entry" {
		a.t.Fatalf("Home Assistant's options for MQTT end in %+v", flow)
	}
}

// Call calls a service of Home Assistant on an entity, as a tap on it does.
func (a *homeAssistant) Call(service, entity string, data map[string]any) {
	a.t.Helper()
	body := map[string]any{"entity_id": entity}
	maps.Copy(body, data)
	a.must(a.request(http.MethodPost, "/api/services/"+strings.Replace(service, ".", "/", 1), body, nil))
}

// Stop ends it as its system does; it has much to write.
func (a *homeAssistant) Stop() {
	a.t.Helper()
	a.socket.close()
	a.process.Signal(syscall.SIGTERM)
	if code := a.process.Wait(); code != 0 {
		a.t.Errorf("Home Assistant: exit code %d after SIGTERM", code)
	}
}

func (a *homeAssistant) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// request asks by REST: url.Values are sent as a form, anything else as JSON.
func (a *homeAssistant) request(method, path string, body, answer any) error {
	var in io.Reader
	kind := "application/json"
	switch body := body.(type) {
	case nil:
	case url.Values:
		kind, in = "application/x-www-form-urlencoded", strings.NewReader(body.Encode())
	default:
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	return a.send(method, path, kind, in, answer)
}

// send asks by REST with a body of a content type.
func (a *homeAssistant) send(method, path, kind string, in io.Reader, answer any) error {
	r, err := http.NewRequest(method, haURL+path, in)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", kind)
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	response, err := a.web.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("home assistant: %s %s: %s: %.500s", method, path, response.Status, b)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(b, answer)
}

// haState is an entity's state. Gone entities have none.
type haState struct {
	State      string
	Attributes map[string]any
}

// haDevice is a row of the device registry.
type haDevice struct {
	ID            string
	Name          string
	Manufacturer  string
	Model         string
	Identifiers   [][]string
	ViaDevice     string   `json:"via_device_id"`
	ConfigEntries []string `json:"config_entries"`
}

// haEntity is a row of the entity registry.
type haEntity struct {
	ID           string `json:"entity_id"`
	Unique       string `json:"unique_id"`
	Platform     string
	Device       string `json:"device_id"`
	Category     string `json:"entity_category"`
	OriginalName string `json:"original_name"`
	DisabledBy   string `json:"disabled_by"`
}

// Registered returns what the MQTT integration has in both registries, devices
// by the identifier that they were announced with and entities by unique id.
func (a *homeAssistant) Registered() (map[string]haDevice, map[string]haEntity) {
	a.t.Helper()
	var (
		allDevices  []haDevice
		allEntities []haEntity
	)
	a.Ask("config/device_registry/list", nil, &allDevices)
	a.Ask("config/entity_registry/list", nil, &allEntities)
	devices, entities := make(map[string]haDevice), make(map[string]haEntity)
	for _, d := range allDevices {
		for _, id := range d.Identifiers {
			if id[0] == "mqtt" {
				devices[id[1]] = d
			}
		}
	}
	for _, e := range allEntities {
		if e.Platform == "mqtt" {
			entities[e.Unique] = e
		}
	}
	return devices, entities
}

// Triggers returns what the editor of automations offers of a device.
func (a *homeAssistant) Triggers(d haDevice) (all []map[string]any, err error) {
	err = a.socket.ask("device_automation/trigger/list", map[string]any{"device_id": d.ID}, &all)
	return all, err
}

// Delete deletes a device, as a person does on its page.
func (a *homeAssistant) Delete(d haDevice) {
	a.t.Helper()
	a.Ask("config/device_registry/remove_config_entry", map[string]any{"device_id": d.ID, "config_entry_id": d.ConfigEntries[0]}, nil)
}

// Ask sends a command by WebSocket.
func (a *homeAssistant) Ask(kind string, fields map[string]any, answer any) {
	a.t.Helper()
	a.must(a.socket.ask(kind, fields, answer))
}

// Until waits until the states of all entities make something true.
func (a *homeAssistant) Until(within time.Duration, what string, so func(haStates) bool) {
	a.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		states, more := a.socket.look()
		if so(states) {
			return
		}
		select {
		case <-more:
		case <-a.socket.ended:
			a.t.Fatalf("Home Assistant hung up while it was awaited that %s", what)
		case <-deadline.C:
			a.t.Fatalf("not within %v in Home Assistant: %s\n%s", within, what, states)
		}
	}
}

// States returns the states of all entities.
func (a *homeAssistant) States() haStates {
	states, _ := a.socket.look()
	return states
}

// haStates are the states of all entities, by entity id.
type haStates map[string]haState

// Is reports whether entities have a state.
func (s haStates) Is(state string, entities ...string) bool {
	for _, e := range entities {
		if got, ok := s[e]; !ok || got.State != state {
			return false
		}
	}
	return true
}

// Known reports whether an entity has a state that says something.
func (s haStates) Known(entity string) bool {
	got, ok := s[entity]
	return ok && got.State != "unknown" && got.State != "unavailable"
}

// String shows those of a dominion.
func (s haStates) String() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s)) {
		if strings.Contains(id, ".dominion_") {
			fmt.Fprintf(&b, "  %s %s\n", id, s[id].State)
		}
	}
	return b.String()
}

// complaint is a line of Home Assistant's log that blames MQTT: at least a
// warning, of the integration or of a template that it evaluates.
var complaint = regexp.MustCompile(` (WARNING|ERROR|CRITICAL) .*\[(homeassistant\.components\.mqtt|homeassistant\.helpers\.template)`)

// Complaints returns what its log blames on MQTT in this run since a position,
// and the next position. Allowed are lines with one of the words.
func (a *homeAssistant) Complaints(since int, allowed ...string) ([]string, int) {
	lines, _ := a.process.log.from(since)
	var all []string
	for _, line := range lines {
		if complaint.MatchString(line) && !containsAny(line, allowed...) {
			all = append(all, line)
		}
	}
	return all, since + len(lines)
}
