package devices

import "testing"

// Tasmota announces its address, which is where its page is unless a config of
// it names another one.
func TestPageOfTasmota(t *testing.T) {
	config := `{"mac":"A4CF12EF3B70","t":"x","ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],"ip":`
	for _, c := range []struct{ ip, other, want string }{
		{`"192.168.1.7"`, "", "http://192.168.1.7/"},
		{`"fd00::7"`, "", "http://[fd00::7]/"},
		{`"192.168.1.7"`, "http://lamp.home/", "http://lamp.home/"},
		{`"0.0.0.0"`, "", ""},
		{`"127.0.0.1"`, "", ""},
		{`"lamp/../x"`, "", ""},
		{`"fe80::1%eth0"`, "", ""},
		{`null`, "", ""},
		{`7`, "", ""},
	} {
		all := []message{
			{"tasmota/discovery/A4CF12EF3B70/config", config + c.ip + "}"},
			{"homeassistant/switch/x/config", `{"dev":{"cns":[["mac","A4CF12EF3B70"]],"cu":"` + c.other + `"}}`},
		}
		permutations(all, func() {
			s := open()
			s.takeAll(all)
			check(t, s)
			if d, _ := s.Device("a4cf12ef3b70"); d.URL != c.want {
				t.Errorf("%s, %q: %q, want %q", c.ip, c.other, d.URL, c.want)
			}
		})
	}
}
