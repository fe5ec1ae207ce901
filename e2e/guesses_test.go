package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/bits"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// The answers of CONNACK (MQTT 3.1.1, 3.2.2.3).
const (
	connackAccepted    = 0
	connackUnavailable = 3
	connackBadUser     = 4
)

// Three clients with an old password and a guesser are at the address of an agent and
// of people who have the right one. The old ones learn nothing and keep nobody out, not
// even who is new there; the guesser is as slow as ever.
func TestOldPasswordsKeepNobodyOut(t *testing.T) {
	home := onEmbedded(t)
	var users strings.Builder
	for name, role := range map[string]string{"kitchen": "domain", "ann": "reader", "bob": "reader", "carl": "reader"} {
		hash, err := bcrypt.GenerateFromPassword([]byte("secret of "+name), bcrypt.MinCost)
		home.must(err)
		fmt.Fprintf(&users, "[[broker.users]]\nname = %q\nrole = %q\npassword_hash = %q\n", name, role, hash)
	}
	home.Configure(users.String())
	kitchen := home.Domain("kitchen")
	password := kitchen.Dir + "/password"
	home.must(writeFile(password, "secret of kitchen\n"))
	kitchen.Configure(nil, fmt.Sprintf("hub = %q\nuser = \"kitchen\"\npassword_file = %q\n", home.Hub.Address()+":1883", password))
	_, agents, o := home.Up(kitchen)

	// login connects from the shared address and returns the answer
	login := func(id, user, password string) (net.Conn, *bufio.Reader, int) {
		c, err := kitchen.Dial("tcp", home.Hub.Address()+":1883")
		home.must(err)
		body := append(append(text("MQTT"), 4, 0xc2, 0, 0), text(id)...)
		body = append(append(body, text(user)...), text(password)...)
		_, err = c.Write(append([]byte{0x10, byte(len(body))}, body...))
		home.must(err)
		var answer [4]byte
		r := bufio.NewReader(c)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, err = io.ReadFull(r, answer[:])
		home.must(err)
		return c, r, int(answer[3])
	}
	try := func(id, user, password string) int {
		c, _, code := login(id, user, password)
		c.Close()
		return code
	}
	ann, annReads, code := login("ann", "ann", "secret of ann")
	defer ann.Close()
	if code != connackAccepted {
		t.Fatalf("ann: %d", code)
	}
	lost := o.Now()

	var stale sync.WaitGroup
	var tries [3]atomic.Int64
	stop := make(chan struct{})
	for i, user := range []string{"kitchen", "ann", "removed"} {
		stale.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if code := try(fmt.Sprint("stale", i), user, "old"); code != connackBadUser {
					t.Errorf("an old password of %s: %d", user, code)
					return
				}
				tries[i].Add(1)
				time.Sleep(10 * time.Millisecond) // a client's own pause
			}
		})
	}
	ended := sync.OnceFunc(func() { close(stop); stale.Wait() })
	defer ended()
	retried := func(n int64) func() bool {
		return func() bool { return tries[0].Load() >= n && tries[1].Load() >= n && tries[2].Load() >= n || t.Failed() }
	}
	eventually(t, "each old password was tried fifty times", retried(50))

	began, checked := time.Now(), 0
	for i := range 80 {
		switch code := try("guesser", "carl", fmt.Sprint("guess", i)); code {
		case connackBadUser:
			checked++
		case connackUnavailable:
		default:
			t.Fatalf("a guess: %d", code)
		}
	}
	// ten are free, the pause after each further one is twice as long
	if most := 11 + bits.Len(uint(time.Since(began)/time.Second)); checked < 10 || checked > most {
		t.Errorf("%d of 80 guesses in %v were checked, want 10 to %d", checked, time.Since(began), most)
	}

	for _, user := range []string{"ann", "bob"} { // bob is new at this address
		if code := try("again-"+user, user, "secret of "+user); code != connackAccepted {
			t.Errorf("%s beside them: %d", user, code)
		}
	}
	if _, err := ann.Write([]byte{0xc0, 0}); err != nil {
		t.Error(err)
	}
	var pong [2]byte
	_ = ann.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(annReads, pong[:]); err != nil || pong[0] != 0xd0 {
		t.Errorf("the connection of ann: %x, %v", pong, err)
	}
	for _, m := range o.Since(lost) {
		if m.Topic == "dominion/domain/kitchen/availability" && m.Payload != "online" {
			t.Errorf("the agent was lost: %v", m)
		}
	}
	agents[0].Stop()
	mark := o.Now()
	kitchen.Start()
	o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "online")
	n := tries[0].Load()
	eventually(t, "the old passwords are still tried", retried(n+5))
	ended()
}
