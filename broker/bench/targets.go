package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	nats "github.com/nats-io/nats-server/v2/server"
)

// target is a broker that can be started.
type target struct {
	name string
	// durable is set if it persists what it acknowledges.
	durable bool
	// login is set if it requires benchUser.
	login bool
	// command returns the command that starts it in dir, listening at addr by TCP and
	// tlsAddr by TLS (certificate cert.pem and key key.pem in dir).
	command func(dir, addr, tlsAddr string) (*exec.Cmd, error)
}

// targets returns all targets, ours first.
func targets(dominion string) []target {
	self, _ := os.Executable()
	return []target{
		{"dominion", true, false, func(dir, addr, tlsAddr string) (*exec.Cmd, error) { return hub(dominion, dir, addr, tlsAddr, "") }},
		{"dominion, a user and 100 rules", true, true, func(dir, addr, tlsAddr string) (*exec.Cmd, error) {
			return ruled(dominion, dir, addr, tlsAddr)
		}},
		{"dominion, not saving", false, false, func(dir, addr, tlsAddr string) (*exec.Cmd, error) {
			return hub(dominion, dir, addr, tlsAddr, "[broker.persistence]\nexclude = [\"#\"]\n")
		}},
		{"mosquitto", false, false, func(dir, addr, tlsAddr string) (*exec.Cmd, error) {
			return mosquitto(dir, addr, tlsAddr, "persistence false\n")
		}},
		{"mosquitto, saving", true, false, func(dir, addr, tlsAddr string) (*exec.Cmd, error) {
			return mosquitto(dir, addr, tlsAddr, "persistence true\npersistence_location "+dir+"/\nautosave_interval 1\n")
		}},
		{"mochi", false, false, func(_, addr, _ string) (*exec.Cmd, error) {
			return exec.Command(self, "-serve", "mochi", "-addr", addr), nil
		}},
		{"nats", true, false, func(dir, addr, _ string) (*exec.Cmd, error) {
			return exec.Command(self, "-serve", "nats", "-addr", addr, "-dir", dir), nil
		}},
	}
}

// hub returns the command of our hub, with more appended to its configuration.
func hub(program, dir, addr, tlsAddr, more string) (*exec.Cmd, error) {
	config := fmt.Sprintf("name = \"bench\"\ndata_dir = %q\n[broker]\nlisten = %q\nlisten_tls = %q\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n%s[zeroconf]\nenabled = false\n[homeassistant]\nenabled = false\n", dir, addr, tlsAddr, more)
	file := filepath.Join(dir, "dominion.toml")
	return exec.Command(program, "-config", file), os.WriteFile(file, []byte(config), 0o600)
}

// ruled is hub with a user of the role device and a hundred rules, none of which
// applies to the loads: each is evaluated.
func ruled(program, dir, addr, tlsAddr string) (*exec.Cmd, error) {
	var more strings.Builder
	for i := range 100 {
		fmt.Fprintf(&more, "[[broker.rules]]\ndeny = [\"publish\", \"subscribe\"]\ntopics = [\"home/%d/%%u/#\"]\n", i)
	}
	// All clients are of one user here, whose daily write budget is used up in a
	// second.
	more.WriteString("[broker.limits]\nclients_per_user = 100000\nwritten_bytes_per_user = 0\n")
	fmt.Fprintf(&more, "[[broker.users]]\nname = %q\npassword_file = \"password\"\nrole = \"device\"\n", benchUser)
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(benchUser+"\n"), 0o600); err != nil {
		return nil, err
	}
	return hub(program, dir, addr, tlsAddr, more.String())
}

// mosquitto returns the command of mosquitto, with more appended to its configuration.
func mosquitto(dir, addr, tlsAddr, more string) (*exec.Cmd, error) {
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		return nil, errors.New("mosquitto is not installed: apt-get install mosquitto")
	}
	_, port, _ := net.SplitHostPort(addr)
	_, tlsPort, _ := net.SplitHostPort(tlsAddr)
	config := "listener " + port + " 127.0.0.1\nlistener " + tlsPort + " 127.0.0.1\ncertfile " + dir + "/cert.pem\nkeyfile " + dir + "/key.pem\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nlog_type error\nuser root\n" + more
	file := filepath.Join(dir, "mosquitto.conf")
	return exec.Command(program, "-c", file), os.WriteFile(file, []byte(config), 0o600)
}

// running is a broker process.
type running struct {
	addr, tlsAddr string
	dir           string
	login         bool
	cmd           *exec.Cmd
}

// place creates a directory and finds free ports for a broker.
func (t target) place() (*running, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	r := &running{dir: dir, login: t.login}
	for _, addr := range []*string{&r.addr, &r.tlsAddr} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*addr = l.Addr().String()
		defer l.Close() // after both were found, so that they differ
	}
	if err := certify(dir); err != nil {
		return nil, err
	}
	return r, nil
}

// certify writes a certificate for loopback, and its key.
func certify(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return errors.Join(write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", secret))
}

// launch starts the broker and waits until it takes connections.
func (r *running) launch(t target) error {
	cmd, err := t.command(r.dir, r.addr, r.tlsAddr)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getenv("BENCH_VERBOSE") != "" {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.cmd = cmd
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		c, err := r.dial("probe", true)
		if err == nil {
			return c.Close()
		}
		time.Sleep(2 * time.Millisecond) // the only way to learn when a foreign program listens
	}
	r.stop()
	return fmt.Errorf("%s does not take connections", t.name)
}

func (r *running) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan struct{})
	go func() { _ = r.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = r.cmd.Process.Kill()
		<-ended
	}
}

func (r *running) remove() { _ = os.RemoveAll(r.dir) }

// cpu is the processor time that the broker used so far.
func (r *running) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// resident is the resident memory in bytes.
func (r *running) resident() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", r.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// serve runs a peer that is a library, until ctx ends.
func serve(ctx context.Context, which, addr, dir string) error {
	switch which {
	case "mochi":
		s := mochi.New(&mochi.Options{ClientNetWriteBufferSize: 16 << 10, Logger: slog.New(slog.DiscardHandler)})
		s.Options.Capabilities.MaximumClientWritesPending = 1 << 20
		s.Options.Capabilities.MaximumMessageExpiryInterval = 0
		if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
			return err
		}
		if err := s.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: addr})); err != nil {
			return err
		}
		if err := s.Serve(); err != nil {
			return err
		}
		<-ctx.Done()
		return s.Close()
	case "nats":
		_, port, _ := net.SplitHostPort(addr)
		n, _ := strconv.Atoi(port)
		s, err := nats.NewServer(&nats.Options{
			ServerName: "bench", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoSigs: true,
			MQTT: nats.MQTTOpts{Host: "127.0.0.1", Port: n, MaxAckPending: 65535},
		})
		if err != nil {
			return err
		}
		s.Start()
		<-ctx.Done()
		s.Shutdown()
		s.WaitForShutdown()
		return nil
	}
	return fmt.Errorf("there is no peer %q", which)
}
