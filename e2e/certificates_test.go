package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, file: filepath.Join(dir, name+".pem"), key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(a.file, "CERTIFICATE", der)
	return a
}

// write replaces a file as a whole, as who renews a certificate does.
func (a *authority) write(file, kind string, der []byte) {
	a.t.Helper()
	if err := writeFile(file+".new", string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		a.t.Fatal(err)
	}
}

// sign makes NAME.crt and NAME.key in dir, of a server where there are
// addresses and of a client otherwise.
func (a *authority) sign(dir, name string, addresses ...string) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	usage := x509.ExtKeyUsageClientAuth
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(12 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, at := range addresses {
		usage = x509.ExtKeyUsageServerAuth
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(at))
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	a.write(keyFile, "EC PRIVATE KEY", keyDER)
	a.write(certFile, "CERTIFICATE", der)
	return certFile, keyFile
}

// The main job behind a door that opens to certificates alone: the plain port
// is closed, and who has none of our authority gets in nowhere.
func TestMainJobWithCertificatesForAll(t *testing.T) {
	home := onEmbedded(t)
	dir := home.Hub.Dir
	servers, clients, next, strangers := newAuthority(t, dir, "servers"), newAuthority(t, dir, "clients"), newAuthority(t, dir, "next"), newAuthority(t, dir, "strangers")
	cert, key := servers.sign(dir, "hub", home.Hub.Address())
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	home.must(err)
	accepted := filepath.Join(dir, "accepted.pem")
	accept := func(a *authority) {
		pem, err := os.ReadFile(a.file)
		home.must(err)
		home.must(writeFile(accepted+".new", string(pem)))
		home.must(os.Rename(accepted+".new", accepted))
	}
	accept(clients)
	users := fmt.Sprintf("[[broker.users]]\nname = \"homeassistant\"\nrole = \"admin\"\npassword_hash = %q\n", hash)
	for name, role := range map[string]string{"me": "admin", "kitchen": "domain", "attic": "domain", "tv": "device"} {
		users += fmt.Sprintf("[[broker.users]]\nname = %q\nrole = %q\ncertificate = true\n", name, role)
		clients.sign(dir, name)
	}
	clients.sign(dir, "homeassistant")
	clients.sign(dir, "nobody")
	home.WriteHubConfig(fmt.Sprintf("name = \"home\"\ndata_dir = %q\n\n[broker]\nlisten = \"\"\nlisten_tls = \":8883\"\ncert_file = %q\nkey_file = %q\nclient_ca_file = %q\nrequire_certificate = true\n\n%s\n%s",
		filepath.Join(dir, "data"), cert, key, accepted, users, service("lamp", `priority = "required"`)))
	with := func(name string, more ...string) []string {
		return append([]string{
			"-h", home.Hub.Address(), "-p", "8883", "--cafile", servers.file,
			"--cert", filepath.Join(dir, name+".crt"), "--key", filepath.Join(dir, name+".key"),
		}, more...)
	}
	listens := func() {
		t.Helper()
		eventually(t, "the broker listens", func() bool {
			c, err := home.observer.Dial("tcp", home.Hub.Address()+":8883")
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	hub := home.StartHub()
	listens()

	kitchen, attic := home.Domain("kitchen"), home.Domain("attic")
	var kitchenAgent *Process
	for _, d := range []*Domain{kitchen, attic} {
		d.Install("lamp")
		text := fmt.Sprintf("cafile = %q\ncert_file = %q\nkey_file = %q\n", servers.file, filepath.Join(dir, d.Name+".crt"), filepath.Join(dir, d.Name+".key"))
		if d == attic { // kitchen finds the hub by zeroconf
			text += fmt.Sprintf("hub = \"mqtts://%s:8883\"\n", home.Hub.Address())
		}
		d.Configure(nil, text)
		if agent := d.Start(); d == kitchen {
			kitchenAgent = agent
		}
	}
	observe := func() *Observer {
		o := &Observer{t: t, messages: newFeed[Message]()}
		o.start(home, with("me", "-q", "2", "-F", observerFormat, "-t", "#"))
		return o
	}
	o := observe()
	works := func(v View) bool {
		return v.Online("kitchen") && v.Online("attic") && v.Healthy("lamp", 2)
	}
	o.Until("both joined by certificate, lamp runs on both", works)

	t.Log("who gets in")
	for _, port := range []string{"1883", "8083", "8084"} {
		for _, from := range []*Host{home.observer, home.Hub} {
			for _, to := range []string{home.Hub.Address(), "127.0.0.1"} {
				if c, err := from.Dial("tcp", net.JoinHostPort(to, port)); err == nil && (from == home.Hub || to != "127.0.0.1") {
					c.Close()
					t.Errorf("port %s is open at %s from %s", port, to, from.Name)
				}
			}
		}
	}
	strange := filepath.Join(dir, "strange")
	home.must(os.MkdirAll(strange, 0o755))
	strangers.sign(strange, "me")
	try := func(args []string) bool {
		t.Helper()
		r := home.observer.Exec(nil, "mosquitto_sub", append(args, "-t", "dominion/hub/availability", "-C", "1", "-W", "60")...)
		return r.Code == 0 && strings.TrimSpace(r.Stdout) == "online"
	}
	bare := []string{"-h", home.Hub.Address(), "-p", "8883", "--cafile", servers.file}
	for _, c := range []struct {
		who  string
		args []string
		in   bool
	}{
		{"an admin", with("me"), true},
		{"a device", with("tv"), true},
		{"Home Assistant, with a password", with("homeassistant", "-u", "homeassistant", "-P", "secret"), true},
		{"Home Assistant, with a wrong one", with("homeassistant", "-u", "homeassistant", "-P", "wrong"), false},
		{"Home Assistant, without", with("homeassistant"), false},
		{"a device as the admin", with("tv", "-u", "me"), false},
		{"a device with another's password", with("tv", "-u", "homeassistant", "-P", "secret"), false},
		{"a certificate of no user", with("nobody"), false},
		{"no certificate", bare, false},
		{"no certificate, but a password", append(bare, "-u", "homeassistant", "-P", "secret"), false},
		{"a certificate of another authority", append(bare, "--cert", filepath.Join(strange, "me.crt"), "--key", filepath.Join(strange, "me.key")), false},
		{"no TLS", []string{"-h", home.Hub.Address(), "-p", "8883"}, false},
	} {
		if got := try(c.args); got != c.in {
			t.Errorf("%s: let in is %v, want %v", c.who, got, c.in)
		}
	}
	ctl := func(name string) Result {
		return home.observer.Exec([]string{"DOMINION_URL=mqtts://" + home.Hub.Address() + ":8883"}, programs.dominionctl, "status",
			"--cafile", servers.file, "--cert", filepath.Join(dir, name+".crt"), "--key", filepath.Join(dir, name+".key"))
	}
	if r := ctl("me"); r.Code != 0 || !strings.Contains(r.Stdout, "attic") {
		t.Errorf("dominionctl as an admin: %+v", r)
	}
	if r := ctl("nobody"); r.Code == 0 {
		t.Errorf("dominionctl as nobody: %+v", r)
	}

	t.Log("an agent is killed, a cable is pulled")
	before, starts := home.Lives(o)
	mark := o.Now()
	kitchenAgent.Kill()
	o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "offline")
	kitchen.Start()
	o.Until("kitchen is back", works)
	home.Journal.Undisturbed(t, "after the agent was killed", before, starts)
	mark = o.Now()
	attic.LinkDown()
	o.AwaitTopic(mark, "dominion/domain/attic/availability", "offline")
	attic.LinkUp()
	o.Until("attic is back", works)

	t.Log("all certificates of clients are renewed, by another authority; the hub restarts")
	old := filepath.Join(dir, "old")
	home.must(os.MkdirAll(old, 0o755))
	clients.sign(old, "me")
	for _, name := range []string{"me", "kitchen", "attic"} {
		next.sign(dir, name)
	}
	accept(next)
	o.Close()
	hub.Stop()
	home.StartHub()
	listens()
	o = observe()
	// the agents were not restarted: they have read what is on the disk now
	o.Until("both are back with their new certificates", func(v View) bool { return v.Ready() && works(v) })
	for _, d := range []*Domain{kitchen, attic} {
		awaitLiveHeartbeat(o, Mark{}, d.Name)
	}
	if !try(with("me")) || try(append(bare, "--cert", filepath.Join(old, "me.crt"), "--key", filepath.Join(old, "me.key"))) {
		t.Error("the new authority is not the one that counts")
	}
}
