package conformance

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// target is a server to test. Whoever speaks to address is let in without a
// name; at guarded, where there is one, only ann with the password s3cret is.
// Nobody may publish or subscribe below "denied/" where it denies.
type target struct {
	name      string
	address   string
	guarded   string
	websocket string // "" where the server leaves WebSocket to others
	// deviations are the tests that this server is known to fail, as
	// "3.1.1 name" or "5.0 name", each with the clause and what it does.
	deviations map[string]string
	denies     bool // what is below "denied/"
	stores     bool // what it sends may wait for its store
}

// mosquitto starts Debian's broker on ports of loopback.
func mosquitto(t testing.TB) *target {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		if program = "/usr/sbin/mosquitto"; !exists(program) {
			t.Skip("skipped: mosquitto is not installed")
		}
	}
	passwords, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		t.Skip("skipped: mosquitto_passwd is not installed")
	}
	dir := t.TempDir()
	// it gives up being root only where it may, and must read its files then
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	users, acl, config := filepath.Join(dir, "users"), filepath.Join(dir, "acl"), filepath.Join(dir, "conf")
	if out, err := exec.Command(passwords, "-b", "-c", users, "ann", "s3cret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	if err := os.Chmod(users, 0o644); err != nil {
		t.Fatal(err)
	}
	to := &target{name: "mosquitto", denies: true, address: free(t), guarded: free(t), websocket: free(t), deviations: mosquittoDeviations}
	write(t, acl, "topic readwrite #\ntopic readwrite $conformance/#\ntopic deny denied/#\nuser ann\ntopic readwrite #\n")
	write(t, config, fmt.Sprintf(`per_listener_settings true
user root
persistence false
sys_interval 0
max_packet_size 300000
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
listener %s 127.0.0.1
allow_anonymous true
acl_file %s
listener %s 127.0.0.1
password_file %s
listener %s 127.0.0.1
protocol websockets
allow_anonymous true
`, port(to.address), acl, port(to.guarded), users, port(to.websocket)))
	said := &journal{}
	cmd := exec.Command(program, "-c", config)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("mosquitto said: %s", tail(said.all()))
		}
	})
	// It says nothing when it listens: a connection is the sign. A refused one
	// returns at once, so let it have the processor in between.
	for _, address := range []string{to.address, to.guarded, to.websocket} {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_ = conn.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("mosquitto does not listen at %s: %s", address, tail(said.all()))
			}
		}
	}
	return to
}

func tail(b []byte) []byte { return b[max(0, len(b)-20000):] }

func write(t testing.TB, file, content string) {
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// free is an address of loopback that nobody listens at.
func free(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func exists(file string) bool { _, err := os.Stat(file); return err == nil }
