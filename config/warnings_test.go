package config

import "testing"

// Users are of no use where everybody is let in without one from other machines.
func TestOpenToAllIsAWarning(t *testing.T) {
	const user = "\n[[broker.users]]\nname = \"me\"\nrole = \"admin\"\npassword_file = \"pw\"\n"
	const anonymous = "\nallow_anonymous = true"
	const tls = "\ncert_file = \"c\"\nkey_file = \"k\"\nlisten = \"\""
	const noHTTPS = "\n[http]\nlisten_tls = \"\"\n"
	for text, want := range map[string]string{
		"listen = \":1883\"" + anonymous + user:            "warning: " + OpenToAll + "\n",
		"listen = \"192.168.1.2:1883\"" + anonymous + user: "warning: " + OpenToAll + "\n",
		"listen_ws = \"[::]:8083\"" + anonymous + user:     "warning: " + OpenToAll + "\n",
		"listen_tls = \":8883\"" + tls + anonymous + user:  "warning: " + OpenToAll + "\n",
		"listen = \":1883\"" + anonymous:                   "",
		"listen = \":1883\"" + user:                        "",
		"listen = \"127.0.0.1:1883\"\nlisten_tls = \"\"" + anonymous + user + "\n[http]\nlisten = \":8080\"":      "warning: " + OpenToAll + "\n",
		"listen = \"127.0.0.1:1883\"\nlisten_tls = \"\"" + anonymous + user + noHTTPS:                             "",
		"listen = \"localhost:1883\"\nlisten_tls = \"\"\nlisten_ws = \"[::1]:8083\"" + anonymous + user + noHTTPS: "",
		"listen_tls = \":8883\"\nclient_ca_file = \"ca\"\nrequire_certificate = true" + tls + anonymous + user:    "",
	} {
		c, err := LoadDominion(write(t, "[broker]\n"+text), nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := c.Warnings(); got != want {
			t.Errorf("%s: warnings %q, want %q", text, got, want)
		}
	}
}
