package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// TLS without OpenSSL: a hub that was told nothing serves MQTT and HTTP over TLS with
// certificates of its own, which clients of others verify with what dominionctl ca and
// /ca.pem give; a user gets a certificate by one command, and is out when it is removed.
func TestTLSOfItsOwn(t *testing.T) {
	home := onEmbedded(t)
	home.WriteHubConfig("name = \"home\"\ndata_dir = \"" + filepath.Join(home.Hub.Dir, "data") + "\"\n\n[broker]\nlisten = \":1883\"\n")
	hub := home.StartHub()
	hub.AwaitLog("listening", "scheme=mqtts")
	hub.AwaitLog("listening", "scheme=https")
	control := []string{"DOMINION_URL=unix:" + home.ControlSocket()}
	ctl := func(args ...string) Result { return home.Hub.Exec(control, programs.dominionctl, args...) }
	address := home.Hub.Address()

	t.Log("the authority, by dominionctl and by HTTP")
	ca := ctl("ca")
	if ca.Code != 0 || !strings.HasPrefix(ca.Stdout, "-----BEGIN CERTIFICATE-----") || !strings.Contains(ca.Stderr, "SHA-256") {
		t.Fatalf("ca: %+v", ca)
	}
	caFile := filepath.Join(home.observer.Dir, "ca.pem")
	home.must(writeFile(caFile, ca.Stdout))
	if body, err := home.Hub.Get("http://127.0.0.1:8080/ca.pem"); err != nil || body != ca.Stdout {
		t.Errorf("/ca.pem: %v\n%s", err, body)
	}
	browserCA, err := home.Hub.Get("http://127.0.0.1:8080/browser-ca.crt")
	if err != nil || browserCA == ca.Stdout {
		t.Errorf("/browser-ca.crt: %v\n%s", err, browserCA)
	}
	browserFile := filepath.Join(home.observer.Dir, "browser-ca.crt")
	home.must(writeFile(browserFile, browserCA))
	if profile, err := home.Hub.Get("http://127.0.0.1:8080/browser-ca.mobileconfig"); err != nil || !strings.Contains(profile, "com.apple.security.root") {
		t.Errorf("/browser-ca.mobileconfig: %v", err)
	}

	t.Log("HTTPS with the root for browsers, from another machine")
	if r := home.observer.Exec(nil, "curl", "-sS", "--fail", "--cacert", browserFile, "https://"+address+":8443/healthz"); r.Code != 0 || r.Stdout != "ok\n" {
		t.Errorf("https: %+v", r)
	}
	if r := home.observer.Exec(nil, "curl", "-sS", "--fail", "https://"+address+":8443/healthz"); r.Code == 0 {
		t.Error("https without the root was accepted")
	}

	t.Log("a user by password, and one by a certificate; nobody without")
	password := ctl("user", "add", "ada", "admin")
	if password.Code != 0 {
		t.Fatalf("user add: %+v", password)
	}
	passwordFile := filepath.Join(home.observer.Dir, "password")
	home.must(os.WriteFile(passwordFile, []byte(password.Stdout), 0o600))
	remote := []string{"--hub", "mqtts://ada@" + address, "--cafile", caFile, "--password-file", passwordFile}
	if r := home.observer.Exec(nil, programs.dominionctl, append([]string{"status"}, remote...)...); r.Code != 0 {
		t.Errorf("status over TLS: %+v", r)
	}
	if r := home.observer.Exec(nil, programs.dominionctl, append([]string{"user", "add", "lamp", "device", "--certificate"}, remote...)...); r.Code != 0 {
		t.Errorf("a private request over TLS: %+v", r)
	}
	made := home.observer.Exec(nil, programs.dominionctl, append([]string{"user", "certificate", "lamp", "--out", home.observer.Dir}, remote...)...)
	if made.Code != 0 || !strings.Contains(made.Stdout, "lamp.crt") {
		t.Fatalf("user certificate: %+v", made)
	}
	if info, err := os.Stat(filepath.Join(home.observer.Dir, "lamp.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v %v", info, err)
	}
	pub := func(args ...string) Result {
		return home.observer.Exec(nil, "mosquitto_pub", append([]string{"-V", "5", "-h", address, "-p", "8883", "--cafile", caFile, "-t", "lamp/state", "-m", "on", "-q", "1"}, args...)...)
	}
	certificate := []string{"--cert", filepath.Join(home.observer.Dir, "lamp.crt"), "--key", filepath.Join(home.observer.Dir, "lamp.key")}
	if r := pub(certificate...); r.Code != 0 {
		t.Errorf("mosquitto_pub with the certificate: %+v", r)
	}
	if r := pub(); !strings.Contains(r.Stderr, "Not authorized") { // it may ask to be adopted, and nothing else
		t.Errorf("mosquitto_pub with nothing: %+v", r)
	}
	var listed []topics.CertificateView
	if r := ctl("certificates", "--json"); r.Code != 0 || json.Unmarshal([]byte(r.Stdout), &listed) != nil {
		t.Errorf("certificates: %+v", r)
	}
	uses := make(map[string]string)
	for _, c := range listed {
		uses[c.Use] = c.Name
	}
	if uses["user"] != "lamp" || uses["hub"] == "" {
		t.Errorf("certificates: %+v", listed)
	}
	if r := ctl("user", "remove", "lamp"); r.Code != 0 {
		t.Errorf("user remove: %+v", r)
	}
	if r := pub(certificate...); r.Code == 0 {
		t.Error("a removed user is let in by its certificate")
	}

	t.Log("a restart keeps the keys; a lost key is named, not replaced, and the hub goes on")
	hub.Stop()
	hub = home.StartHub()
	hub.AwaitLog("the hub is ready")
	if again := ctl("ca"); again.Stdout != ca.Stdout {
		t.Errorf("another authority after a restart: %+v", again)
	}
	hub.Stop()
	key := filepath.Join(home.Hub.Dir, "data", "identity", "authority.key")
	home.must(os.Rename(key, key+".away"))
	home.StartHub().AwaitLog("the hub is ready")
	if r := ctl("status"); r.Code != 0 || !strings.Contains(r.Stdout, "restore identity/ from a backup") {
		t.Errorf("without the authority's key: %+v", r)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("the authority's key was made anew")
	}
}

// A certificate that is revoked is out at once, with the session and the retained messages
// of its user, stays out over a restart, and also where the user is added again. A hub
// that is restored from a backup finds what was revoked since in its broker's key list.
func TestRevokedCertificates(t *testing.T) {
	home := onEmbedded(t)
	data := filepath.Join(home.Hub.Dir, "data")
	home.WriteHubConfig("name = \"home\"\ndata_dir = \"" + data + "\"\n\n[broker]\nlisten = \":1883\"\n")
	hub := home.StartHub()
	hub.AwaitLog("the hub is ready")
	control := []string{"DOMINION_URL=unix:" + home.ControlSocket()}
	ctl := func(args ...string) Result { return home.Hub.Exec(control, programs.dominionctl, args...) }
	must := func(args ...string) Result {
		t.Helper()
		r := ctl(args...)
		if r.Code != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
		return r
	}
	dir := home.observer.Dir
	caFile := filepath.Join(dir, "ca.pem")
	home.must(writeFile(caFile, must("ca").Stdout))
	client := func(name, user string, args ...string) []string {
		return append([]string{
			"-V", "5", "-h", home.Hub.Address(), "-p", "8883", "--cafile", caFile, "-i", name, "-q", "1",
			"--cert", filepath.Join(dir, user+".crt"), "--key", filepath.Join(dir, user+".key"),
		}, args...)
	}
	publish := func(user string) bool {
		return home.observer.Exec(nil, "mosquitto_pub", client(user+"-pub", user, "-t", user+"/state", "-m", "on", "-r")...).Code == 0
	}
	for _, user := range []string{"lamp", "oven"} {
		must("user", "add", user, "device", "--certificate")
		must("user", "certificate", user, "--out", dir)
		if !publish(user) {
			t.Fatalf("%s is not let in", user)
		}
	}
	key := func(user string) topics.CertificateView {
		t.Helper()
		var listed []topics.CertificateView
		home.must(json.Unmarshal([]byte(must("certificates", "--json").Stdout), &listed))
		for _, c := range listed {
			if c.Name == user {
				return c
			}
		}
		t.Fatalf("no certificate of %s: %+v", user, listed)
		return topics.CertificateView{}
	}
	listening := home.observer.Start("mosquitto_sub", client("lamp-sub", "lamp", "-c", "-x", "3600", "-t", "oven/#")...)
	eventually(t, "the session is there", func() bool { return strings.Contains(ctl("clients").Stdout, "lamp-sub") })

	t.Log("revoked: out at once")
	label := key("lamp").Key[:16]
	must("certificates", "revoke", label[:4]+"-"+label[4:8]+"-"+label[8:12]+"-"+label[12:])
	listening.Wait()
	if publish("lamp") || !publish("oven") {
		t.Error("the wrong one is let in")
	}
	if out := ctl("clients").Stdout; strings.Contains(out, "lamp-sub") {
		t.Errorf("its session is left:\n%s", out)
	}
	if !key("lamp").Revoked || key("oven").Revoked {
		t.Errorf("certificates: %+v, %+v", key("lamp"), key("oven"))
	}
	retained := func(topic string) string {
		return home.observer.Exec(nil, "mosquitto_sub", client("reader", "oven", "-t", topic, "-C", "1", "-W", "2", "--retained-only")...).Stdout
	}
	if got := retained("lamp/state"); got != "" {
		t.Errorf("its retained message is left: %s", got)
	}
	if got := retained("oven/state"); got != "on\n" {
		t.Errorf("the other's retained message is %q", got)
	}
	if got := retained("dominion/hub/keys"); !strings.Contains(got, key("lamp").Key) || !strings.Contains(got, `"signature"`) {
		t.Errorf("the key list: %s", got)
	}

	t.Log("it stays out over a restart, and a removed user also where it is added again")
	hub.Stop()
	backup := filepath.Join(home.Hub.Dir, "backup")
	home.must(os.CopyFS(backup, os.DirFS(filepath.Join(data, "identity"))))
	hub = home.StartHub()
	hub.AwaitLog("the hub is ready")
	if publish("lamp") || !publish("oven") {
		t.Error("after a restart: the wrong one is let in")
	}
	must("user", "remove", "oven")
	must("user", "add", "oven", "device", "--certificate")
	if publish("oven") || !key("oven").Revoked {
		t.Error("the certificate of a removed user is good for one that was added again")
	}

	t.Log("a restored identity finds the newer list in the broker")
	hub.Stop()
	home.must(os.RemoveAll(filepath.Join(data, "identity")))
	home.must(os.CopyFS(filepath.Join(data, "identity"), os.DirFS(backup)))
	hub = home.StartHub()
	hub.AwaitLog("a key list that is newer than the hub's own was taken over")
	hub.AwaitLog("the hub is ready")
	if publish("oven") || publish("lamp") {
		t.Error("after the restore: a revoked certificate is let in")
	}
}

// A default port that somebody else has is a problem, not an end; one that is written
// down is fatal.
func TestDefaultTLSPortIsTaken(t *testing.T) {
	home := onEmbedded(t)
	config := "name = \"home\"\ndata_dir = \"" + filepath.Join(home.Hub.Dir, "data") + "\"\n\n[broker]\nlisten = \":1883\"\n"
	home.WriteHubConfig(config)
	mosquittoFile := filepath.Join(home.Hub.Dir, "mosquitto.conf")
	home.must(writeFile(mosquittoFile, "listener 8883\nallow_anonymous true\n"))
	home.Hub.Start("mosquitto", "-c", mosquittoFile).AwaitLog("listen socket on port 8883")
	hub := home.StartHub()
	hub.AwaitLog("the hub is ready")
	if r := home.Hub.Exec([]string{"DOMINION_URL=unix:" + home.ControlSocket()}, programs.dominionctl, "status"); r.Code != 0 || !strings.Contains(r.Stdout, "8883") {
		t.Errorf("status: %+v", r)
	}
	hub.Stop()
	home.WriteHubConfig(config + "listen_tls = \":8883\"\n")
	hub = home.Hub.Start(programs.dominion, "-config", home.hubFile())
	hub.AwaitLog("cannot listen on broker.listen_tls")
	if code := hub.Wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
}
