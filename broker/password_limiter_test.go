package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
)

const (
	letIn     = ""
	isWrong   = "refused user or password"
	isWaiting = "server busy (0x89)"
)

// loginFunc is a broker with the users pi, ada and bob whose passwords are their
// names, and a function that logs in once from an address.
func loginFunc(t *testing.T) func(host, user, password string) string {
	t.Helper()
	var users []broker.User
	for _, name := range []string{"pi", "ada", "bob"} {
		role := broker.RoleDevice
		if name == "pi" {
			role = broker.RoleDomain
		}
		users = append(users, broker.User{Name: name, PasswordFile: write(t, name, name+"\n"), Role: role})
	}
	b := start(t, broker.Config{Users: users})
	return func(host, user, password string) string {
		c, err := client.Connect(t.Context(), client.Options{URL: "mqtt://pipe", ClientID: "c-" + user[:min(len(user), 100)], User: user, Password: password, Dial: pipeFrom(b, host)})
		if err == nil {
			c.Close()
			return letIn
		}
		for _, known := range []string{isWrong, isWaiting} {
			if strings.Contains(err.Error(), known) {
				return known
			}
		}
		return err.Error()
	}
}

const home = "192.0.2.66" // an address that many share: a NAT, a proxy

// Clients with an old password that retry for ever learn nothing: they keep
// nobody out, whoever they say they are, also somebody who logs in there for the
// first time. When the password is theirs again they are let in.
func TestOldPasswordsPunishNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		login := loginFunc(t)
		for second := range 3600 {
			for i := range 3 {
				if got := login(home, "pi", fmt.Sprint("old", i)); got != isWrong {
					t.Fatalf("second %d: an old password of pi: %q", second, got)
				}
			}
			if second%60 == 0 {
				for i := range 25 { // more users with an old password than an address has tries
					login(home, fmt.Sprint("removed", i), "old")
				}
			}
			if second == 1800 || second%60 == 59 {
				for _, user := range []string{"pi", "ada"} {
					if got := login(home, user, user); got != letIn {
						t.Fatalf("second %d: %s with its password: %q", second, user, got)
					}
				}
			}
			time.Sleep(time.Second)
		}
	})
}

// Who has logged in from an address is not kept out by what others try there.
func TestOthersTriesPunishNobodyWhoWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		login := loginFunc(t)
		if got := login(home, "pi", "pi"); got != letIn {
			t.Fatal(got)
		}
		waited := false
		for second := range 1800 {
			waited = login(home, "bob", fmt.Sprint("guess", second)) == isWaiting || waited
			login(home, fmt.Sprint("made-up", second), "guess")
			if got := login(home, "pi", "pi"); got != letIn {
				t.Fatalf("second %d: %q", second, got)
			}
			time.Sleep(time.Second)
		}
		if !waited {
			t.Error("guessing is not slowed down")
		}
		// its own wrong tries count
		for i := 0; login(home, "pi", fmt.Sprint("guess", i)) != isWaiting; i++ {
			if i > 20 {
				t.Fatal("the tries of a user who was there are not counted")
			}
		}
	})
}

// Who is new at an address waits once for the tries of others, not for ever.
func TestOthersDoNotRenewAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		login := loginFunc(t)
		for i := range 600 {
			login(home, "bob", fmt.Sprint("guess", i))
			login(home, fmt.Sprint("user", i%40), fmt.Sprint("guess", i))
			time.Sleep(time.Second)
		}
		began := time.Now()
		for i := 0; ; i++ {
			login(home, "bob", fmt.Sprint("more", i))
			login(home, fmt.Sprint("user", i%40), fmt.Sprint("more", i))
			if login(home, "ada", "ada") == letIn {
				break
			}
			if time.Since(began) > 5*time.Minute {
				t.Fatal("ada is kept out for ever")
			}
			time.Sleep(time.Second)
		}
	})
}

// Guessing is slow: for one user, for a list of them, and for one who tries old
// guesses in between.
func TestGuessingIsSlow(t *testing.T) {
	for name, user := range map[string]func(i int) string{
		"one user":    func(int) string { return "ada" },
		"three users": func(i int) string { return []string{"ada", "bob", "pi"}[i%3] },
		"all new":     func(i int) string { return fmt.Sprint("user", i) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				login := loginFunc(t)
				checked := 0
				for i := range 4 * 3600 { // an hour
					if login(home, user(i), fmt.Sprint("guess", i)) == isWrong {
						checked++
					}
					if i%10 == 0 {
						login(home, user(i), "guess0")
					}
					time.Sleep(250 * time.Millisecond)
				}
				// 30 at once, then after 1, 2, 4, … 60 s: 66 more in an hour
				if most := 30 + 70; checked > most {
					t.Errorf("%d guesses were checked in an hour, want %d at most", checked, most)
				}
			})
		})
	}
}

// What is remembered is bounded, whatever names and addresses are tried.
func TestGuessesAreBounded(t *testing.T) {
	b := start(t, broker.Config{})
	for i := range 6_000 {
		b.WrongPassword(fmt.Sprintf("192.0.%d.%d:1", i/256%256, i%256), strings.Repeat("x", 60_000), fmt.Sprint(i))
	}
	for i := range 6_000 {
		b.WrongPassword("192.0.2.1:1", "ada", fmt.Sprint(i))
		b.RightPassword(fmt.Sprint("192.0.2.1.", i))
	}
	if pairs, known, stale := b.RememberedPasswords(); pairs > 4096 || known > 4096 || stale > 8 {
		t.Errorf("%d pairs, %d logins, %d wrong passwords of one are remembered", pairs, known, stale)
	}
}
