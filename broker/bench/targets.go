package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	name    string
	durable bool // it keeps what it acknowledged
	command func(dir, addr string) (*exec.Cmd, error)
}

func targets(dominion string) []target {
	self, _ := os.Executable()
	return []target{
		{"dominion", true, func(dir, addr string) (*exec.Cmd, error) {
			config := fmt.Sprintf("name = \"bench\"\ndata_dir = %q\n[broker]\nlisten = %q\n[zeroconf]\nenabled = false\n[homeassistant]\nenabled = false\n", dir, addr)
			file := filepath.Join(dir, "dominion.toml")
			return exec.Command(dominion, "-config", file), os.WriteFile(file, []byte(config), 0o600)
		}},
		{"mosquitto", false, func(dir, addr string) (*exec.Cmd, error) { return mosquitto(dir, addr, "persistence false\n") }},
		{"mosquitto, saving", true, func(dir, addr string) (*exec.Cmd, error) {
			return mosquitto(dir, addr, "persistence true\npersistence_location "+dir+"/\nautosave_interval 1\n")
		}},
		{"mochi", false, func(_, addr string) (*exec.Cmd, error) {
			return exec.Command(self, "-serve", "mochi", "-addr", addr), nil
		}},
		{"nats", true, func(dir, addr string) (*exec.Cmd, error) {
			return exec.Command(self, "-serve", "nats", "-addr", addr, "-dir", dir), nil
		}},
	}
}

func mosquitto(dir, addr, more string) (*exec.Cmd, error) {
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		return nil, errors.New("mosquitto is not installed: apt-get install mosquitto")
	}
	_, port, _ := net.SplitHostPort(addr)
	config := "listener " + port + " 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nlog_type error\nuser root\n" + more
	file := filepath.Join(dir, "mosquitto.conf")
	return exec.Command(program, "-c", file), os.WriteFile(file, []byte(config), 0o600)
}

// running is a broker process.
type running struct {
	addr string
	dir  string
	cmd  *exec.Cmd
}

// start starts a broker in an empty folder and waits until it takes connections.
func (t target) start() (*running, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &running{addr: l.Addr().String(), dir: dir}
	l.Close()
	return r, r.launch(t)
}

func (r *running) launch(t target) error {
	cmd, err := t.command(r.dir, r.addr)
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
		c, err := dial(r.addr, "probe", true)
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

// serve runs a peer that is a library, until it is told to end.
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
