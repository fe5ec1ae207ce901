package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// publishes is a service that publishes all the time which certificate it has.
const publishes = `note() {
	until at=$(date +%s%N) && [ "$at" ]; do :; done
	echo "$at $1 $SERVICE_NAME $DOMAIN_NAME $$" >>@JOURNAL@
}
note start
while sleep 1; do
	mosquitto_pub -h "$DOMINION_IP" -p "$DOMINION_PORT" --cafile "$DOMINION_CA_FILE" --cert "$DOMINION_CERT_FILE" --key "$DOMINION_KEY_FILE" \
		-q 1 -t "sensor/$SERVICE_NAME" -m "$(sha256sum <"$DOMINION_CERT_FILE")"
done
`

// serviceFiles returns the files of a service's certificate as arguments of mosquitto's clients.
func (d *Domain) serviceFiles(dir string) []string {
	return []string{
		"-h", d.home.Hub.Address(), "-p", "8883", "--cafile", filepath.Join(dir, "ca.pem"),
		"--cert", filepath.Join(dir, "cert.pem"), "--key", filepath.Join(dir, "key.pem"),
	}
}

// issuedTo reports whether a service has a certificate that is not revoked.
func (h *Home) issuedTo(service string) bool {
	h.t.Helper()
	var all []topics.CertificateView
	_ = json.Unmarshal([]byte(h.control("certificates", "--json").Stdout), &all)
	return slices.ContainsFunc(all, func(c topics.CertificateView) bool { return c.Use == "service" && c.Name == service && !c.Revoked })
}

// A hub that was restored from a backup accepts no certificate that was issued after it. The agent has
// another one issued to its service when it joins, without a command.
func TestRestoredHubIssuesCertificatesOfServicesAgain(t *testing.T) {
	home := onEmbedded(t)
	data, backup := filepath.Join(home.Hub.Dir, "data"), filepath.Join(home.Hub.Dir, "backup")
	home.adoptionHub(service("bell", `priority = "required"`))
	hub := home.StartHub()
	pi := home.Domain("pi")
	pi.Configure(nil, home.hubAt())
	pi.Start()
	home.awaitState("pi", topics.DomainIsOnline)
	hub.Stop()
	home.must(command("cp", "-a", data, backup))
	hub = home.StartHub()
	pi.Write("bell", "Makefile", "run:\n\t@exec sh ./run.sh\n")
	pi.Write("bell", "run.sh", strings.ReplaceAll(publishes, "@JOURNAL@", home.Journal.file))
	eventually(t, "bell has a certificate", func() bool { return home.issuedTo("bell.pi") })
	running := home.Journal.AwaitRunning(t, "bell@pi")
	starts := home.Journal.Starts(t)
	hub.Stop()
	home.must(command("rm", "-r", data))
	home.must(command("mv", backup, data))
	home.StartHub()
	home.awaitState("pi", topics.DomainIsOnline)
	eventually(t, "bell has a certificate of the restored hub", func() bool { return home.issuedTo("bell.pi") })
	home.Hub.Start("mosquitto_sub", "-h", "127.0.0.1", "-t", "sensor/#", "-v").AwaitLog("sensor/bell ")
	home.Journal.Undisturbed(t, "after the hub was restored", running, starts)
}

// A service of a second machine gets a certificate by which it publishes and asks, and orders nothing.
// It is renewed while the service runs, is out when its key is revoked, and also when its
// machine is forgotten; restarts of agent and hub restart no service.
func TestServicesHaveCertificates(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub("[identity]\nlifetime = \"1m\"\n" + service("web", `priority = "required"`) + service("bell", `priority = "required"`))
	hub := home.StartHub()
	pi := home.Domain("pi")
	pi.Configure(nil, home.hubAt())
	for _, name := range []string{"web", "bell"} {
		pi.Write(name, "Makefile", "run:\n\t@exec sh ./run.sh\n")
		pi.Write(name, "run.sh", strings.ReplaceAll(publishes, "@JOURNAL@", home.Journal.file))
	}
	agent := pi.Start()
	listen := func() *Process {
		return home.Hub.Start("mosquitto_sub", "-h", "127.0.0.1", "-t", "sensor/#", "-v")
	}
	home.Journal.Await(t, 1, "start", "web")
	home.Journal.Await(t, 1, "start", "bell")

	t.Log("the service publishes with its files, which nobody else can read")
	dir := filepath.Join(pi.DataDir(), "credentials", "web")
	hash := func() string {
		text, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
		if err != nil {
			return ""
		}
		return fmt.Sprintf("%x", sha256.Sum256(text))
	}
	eventually(t, "web has a certificate", func() bool { return hash() != "" })
	first := hash()
	listen().AwaitLog("sensor/web " + first)
	process, err := os.Stat(fmt.Sprintf("/proc/%d", home.Journal.Of(t, "start", "web")[0].PID))
	home.must(err)
	for path, mode := range map[string]os.FileMode{dir: os.ModeDir | 0o700, filepath.Join(dir, "key.pem"): 0o600} {
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != mode || info.Sys().(*syscall.Stat_t).Uid != process.Sys().(*syscall.Stat_t).Uid {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}

	t.Log("what it may do")
	with := pi.serviceFiles(dir)
	publish := func(topic, payload string, with []string) Result {
		return pi.Exec(nil, "mosquitto_pub", append([]string{"-V", "5", "-q", "1", "-t", topic, "-m", payload}, with...)...)
	}
	if r := publish("sensor/x", "1", with); r.Code != 0 || r.Stderr != "" {
		t.Errorf("it cannot publish: %+v", r)
	}
	r := pi.Exec(nil, "mosquitto_rr", append([]string{"-t", "dominion/request/status", "-e", "dominion/response/status", "-m", `{"transaction":"of-web"}`, "-W", "60"}, with...)...)
	if r.Code != 0 || !strings.Contains(r.Stdout, `"of-web"`) || !strings.Contains(r.Stdout, `"name":"pi"`) {
		t.Errorf("it cannot ask for the status: %+v", r)
	}
	environment := []string{
		"DOMINION_URL=mqtts://" + home.Hub.Address(), "DOMINION_CA_FILE=" + filepath.Join(dir, "ca.pem"),
		"DOMINION_CERT_FILE=" + filepath.Join(dir, "cert.pem"), "DOMINION_KEY_FILE=" + filepath.Join(dir, "key.pem"),
	}
	if r := pi.Exec(environment, programs.dominionctl, "domains", "--timeout", "1m"); r.Code != 0 || !strings.Contains(r.Stdout, "pi") {
		t.Errorf("dominionctl domains in the service: %+v", r)
	}
	if r := pi.Exec(environment, programs.dominionctl, "stop", "web"); r.Code == 0 {
		t.Errorf("dominionctl stop in the service: %+v", r)
	}
	for topic, payload := range map[string]string{
		"dominion/service/web/set": "OFF", "dominion/request/stop": `{"transaction":"t","service":"web"}`,
		"dominion/request/join": `{"transaction":"t","name":"pi"}`, "dominion/request/forget": `{"transaction":"t","domain":"pi"}`,
		"dominion/domain/pi/command": "{}", "dominion/domain/pi/services/set": "{}", "dominion/domain/pi/heartbeat": "{}",
		"dominion/domain/pi/drain/set": "ON",
	} {
		if r := publish(topic, payload, with); !strings.Contains(r.Stderr, "Not authorized") {
			t.Errorf("it publishes to %s: %+v", topic, r)
		}
	}
	if r := publish("sensor/x", "1", append([]string{"-u", "pi"}, with...)); r.Code == 0 {
		t.Errorf("it is let in as its domain: %+v", r)
	}

	t.Log("who has one")
	listed := make(map[string]topics.CertificateView)
	var all []topics.CertificateView
	home.must(json.Unmarshal([]byte(home.control("certificates", "--json").Stdout), &all))
	for _, c := range all {
		if c.Use == "service" {
			listed[c.Name] = c
		}
	}
	if len(listed) != 2 || listed["web.pi"].Key == "" || listed["bell.pi"].Key == "" {
		t.Fatalf("certificates: %+v", all)
	}

	t.Log("restarts of agent and hub")
	agent.Kill()
	pi.Start()
	hub.Stop()
	home.StartHub().AwaitLog("the hub is ready")
	home.awaitState("pi", topics.DomainIsOnline)

	t.Log("a renewal")
	eventually(t, "the certificate is renewed", func() bool { return hash() != first })
	listen().AwaitLog("sensor/web " + hash())
	home.event(topics.CertificateRenewed, "services of pi")

	t.Log("a revoked key is out, the other is not")
	other := pi.serviceFiles(filepath.Join(pi.DataDir(), "credentials", "bell"))
	if r := publish("sensor/x", "1", other); r.Code != 0 {
		t.Errorf("bell cannot publish: %+v", r)
	}
	if r := home.control("certificates", "revoke", listed["bell.pi"].Key); r.Code != 0 {
		t.Fatalf("revoke: %+v", r)
	}
	if r := publish("sensor/x", "1", other); r.Code == 0 {
		t.Error("a revoked service is let in")
	}
	if r := publish("sensor/x", "1", with); r.Code != 0 {
		t.Errorf("the other service is out: %+v", r)
	}
	for _, name := range []string{"web", "bell"} {
		if starts := home.Journal.Of(t, "start", name); len(starts) != 1 {
			t.Errorf("%s was started again: %v", name, starts)
		}
	}

	t.Log("the machine is forgotten")
	taken := filepath.Join(home.dir, "taken")
	home.must(command("cp", "-a", dir, taken))
	if r := home.control("forget", "pi"); r.Code != 0 {
		t.Fatalf("forget: %+v", r)
	}
	if r := publish("sensor/x", "1", pi.serviceFiles(taken)); r.Code == 0 {
		t.Error("a service of a forgotten machine is let in")
	}
}

// After a power cut a service starts without its hub, with the certificate that it has.
func TestServiceStartsWithItsCertificateWithoutAHub(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub(service("web", `priority = "required"`))
	hub := home.StartHub()
	pi := home.Domain("pi")
	pi.Configure(nil, home.hubAt())
	pi.InstallShell("web")
	pi.Start()
	home.Journal.Await(t, 1, "start", "web")
	cert := filepath.Join(pi.DataDir(), "credentials", "web", "cert.pem")
	eventually(t, "web has a certificate", func() bool { _, err := os.Stat(cert); return err == nil })
	before, err := os.ReadFile(cert)
	home.must(err)
	hub.Stop()
	pi.PowerCut()
	pi.LinkUp()
	pi.Start()
	again := home.Journal.Await(t, 2, "start", "web")
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", again.PID))
	home.must(err)
	for _, variable := range []string{"DOMINION_URL=mqtts://" + home.Hub.Address() + ":8883", "DOMINION_CERT_FILE=" + cert} {
		if !strings.Contains("\x00"+string(environment), "\x00"+variable+"\x00") {
			t.Errorf("web is started without %s: %q", variable, environment)
		}
	}
	if after, err := os.ReadFile(cert); err != nil || string(after) != string(before) {
		t.Errorf("its certificate is another one: %v", err)
	}
}

// When the authority is replaced, services trust the next one before it is used, and get
// certificates of it, without a restart.
func TestServicesFollowTheAuthority(t *testing.T) {
	home := onEmbedded(t)
	home.adoptionHub(service("web", `priority = "required"`))
	home.StartHub()
	pi := home.Domain("pi")
	pi.Configure(nil, home.hubAt())
	pi.InstallShell("web")
	pi.Start()
	home.Journal.Await(t, 1, "start", "web")
	dir := filepath.Join(pi.DataDir(), "credentials", "web")
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		return string(text)
	}
	eventually(t, "web has a certificate", func() bool { return read("cert.pem") != "" })
	before, key, first := home.control("ca").Stdout, read("key.pem"), read("cert.pem")
	if r := home.control("authority", "rotate"); r.Code != 0 {
		t.Fatalf("rotate: %+v", r)
	}
	eventually(t, "the next authority is used, and web trusts it alone", func() bool {
		ca := home.control("ca").Stdout
		return ca != before && strings.TrimSpace(read("ca.pem")) == strings.TrimSpace(ca)
	})
	eventually(t, "web has another certificate", func() bool { return read("cert.pem") != first })
	if r := pi.Exec(nil, "mosquitto_pub", append([]string{"-V", "5", "-q", "1", "-t", "sensor/x", "-m", "1"}, pi.serviceFiles(dir)...)...); r.Code != 0 {
		t.Errorf("it cannot publish: %+v", r)
	}
	if read("key.pem") != key || len(home.Journal.Of(t, "start", "web")) != 1 {
		t.Error("web has another key, or was restarted")
	}
}
