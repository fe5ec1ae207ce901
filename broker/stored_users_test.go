package broker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker"
)

// Users are made, changed and ended without a restart, and are there after one.
func TestUsersAtRunTime(t *testing.T) {
	dir := t.TempDir()
	config := broker.Config{DataDir: dir, Users: []broker.User{{Name: "root", PasswordHash: hashOf(t, "r"), Role: broker.RoleAdmin}}}
	b := start(t, config)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(user, password string, want bool) {
		t.Helper()
		if err := tryConnect(t, b, "c-"+user, user, password); (err == "") != want {
			t.Errorf("%s with %q: %q", user, password, err)
		}
	}
	in("tv", "one", false)
	must(b.AddUser(broker.User{Name: "tv", Role: broker.RoleDevice, PasswordHash: hashOf(t, "one")}))
	in("tv", "one", true)
	must(b.ChangeUser("tv", "", hashOf(t, "two")))
	in("tv", "one", false)
	in("tv", "two", true)
	must(b.ChangeUser("tv", broker.RoleReader, ""))

	for _, tt := range []struct {
		what string
		err  error
		want string
	}{
		{"twice", b.AddUser(broker.User{Name: "tv", Role: broker.RoleDevice, PasswordHash: hashOf(t, "x")}), `"tv": there is a user of this name already`},
		{"of the configuration", b.AddUser(broker.User{Name: "root", Role: broker.RoleDevice, PasswordHash: hashOf(t, "x")}), "defined in the configuration"},
		{"removed from the configuration", b.RemoveUser("root"), "defined in the configuration"},
		{"a role that is none", b.AddUser(broker.User{Name: "a", Role: "king", PasswordHash: hashOf(t, "x")}), "is not a valid role"},
		{"changed to one", b.ChangeUser("tv", "king", ""), "is not a valid role"},
		{"without a password", b.AddUser(broker.User{Name: "a", Role: broker.RoleDevice}), "it needs one of"},
		{"no hash", b.AddUser(broker.User{Name: "a", Role: broker.RoleDevice, PasswordHash: "secret"}), "not a bcrypt hash"},
		{"a name with a wildcard", b.AddUser(broker.User{Name: "a/+", Role: broker.RoleDevice, PasswordHash: hashOf(t, "x")}), "use no +"},
		{"that is not there", b.RemoveUser("nobody"), "no user of this name"},
		{"a file", b.AddUser(broker.User{Name: "a", Role: broker.RoleDevice, PasswordFile: "/etc/shadow"}), "must be set in the configuration"},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("a user %s: %v, want %s", tt.what, tt.err, tt.want)
		}
	}

	must(b.Reload(config.Users, false, nil)) // leaves them
	in("tv", "two", true)
	stop(t, b)
	b = start(t, config)
	in("tv", "two", true)
	if all := b.Users(); len(all) != 2 || all[1].Name != "tv" || all[1].Role != broker.RoleReader || all[1].Configured || !all[0].Configured {
		t.Errorf("%+v", all)
	}
	must(b.RemoveUser("tv"))
	in("tv", "two", false)

	file := filepath.Join(dir, "users.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// A file that somebody broke costs its users, not the hub.
func TestBrokenUserFile(t *testing.T) {
	for _, text := range []string{"{", `[{"name": "tv", "role": "king", "password_hash": "x"}]`, "[]"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "users.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b := start(t, broker.Config{DataDir: dir, Users: []broker.User{{Name: "root", PasswordHash: hashOf(t, "r"), Role: broker.RoleAdmin}}})
		if err := tryConnect(t, b, "c", "root", "r"); err != "" {
			t.Errorf("%s: %s", text, err)
		}
	}
}

// The copy beside the file takes its place when a power cut broke it: who was
// removed is not in that either.
func TestRemovedUserStaysAwayFromABrokenFile(t *testing.T) {
	dir := t.TempDir()
	config := broker.Config{DataDir: dir, Users: []broker.User{{Name: "root", PasswordHash: hashOf(t, "r"), Role: broker.RoleAdmin}}}
	b := start(t, config)
	hash := hashOf(t, "x")
	for _, name := range []string{"tv", "robot"} {
		if err := b.AddUser(broker.User{Name: name, Role: broker.RoleDevice, PasswordHash: hash}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.RemoveUser("tv"); err != nil {
		t.Fatal(err)
	}
	stop(t, b)
	if err := os.WriteFile(filepath.Join(dir, "users.json"), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = start(t, config)
	if err := tryConnect(t, b, "c1", "tv", "x"); err == "" {
		t.Error("a removed user is back")
	}
	if err := tryConnect(t, b, "c2", "robot", "x"); err != "" {
		t.Errorf("a user of the copy: %s", err)
	}
}

// What the disk does not take is not in force.
func TestUserThatCannotBePersisted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	b := start(t, broker.Config{DataDir: dir, Users: []broker.User{{Name: "other", Role: broker.RoleDevice, PasswordHash: hashOf(t, "x")}}})
	stopWriting(t, dir)
	if err := b.AddUser(broker.User{Name: "tv", Role: broker.RoleDevice, PasswordHash: hashOf(t, "x")}); err == nil {
		t.Error("a user that is not kept was accepted")
	}
	if err := tryConnect(t, b, "c", "tv", "x"); err == "" {
		t.Error("a user that was refused gets in")
	}
}

// stopWriting puts a folder where the file would be: that stops root, too.
func stopWriting(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "users.json", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
}
