package origin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"http://hub":                         "http://hub:80",
		"HTTPS://Home.Example":               "https://home.example:443",
		"https://home.example:443":           "https://home.example:443",
		"https://home.example:0443":          "https://home.example:443",
		"http://home.example.":               "http://home.example.:80",
		"http://192.168.1.2:8123":            "http://192.168.1.2:8123",
		"http://[::1]":                       "http://[::1]:80",
		"http://[0:0:0:0:0:0:0:1]:8080":      "http://[::1]:8080",
		"http://[2001:DB8::1]:8080":          "http://[2001:db8::1]:8080",
		"http://[::ffff:7f00:1]:8080":        "http://[::ffff:127.0.0.1]:8080",
		"http://my_hub-2:1":                  "http://my_hub-2:1",
		"capacitor://localhost:1":            "capacitor://localhost:1",
		"":                                   "",
		"null":                               "",
		"*":                                  "",
		"home.example":                       "",
		"//home.example":                     "",
		"://home.example":                    "",
		"http:home.example":                  "",
		"http://":                            "",
		"http://:80":                         "",
		"file://":                            "",
		"capacitor://localhost":              "", // no port, and no default for one
		"http://home.example/":               "",
		"http://home.example/page":           "",
		"http://home.example?":               "",
		"http://home.example#":               "",
		"http://home.example?q":              "",
		"http://ann@home.example":            "",
		"http://@home.example":               "",
		"http://home.example\\@evil.example": "",
		"http://home.example:65536":          "",
		"http://home.example:-1":             "",
		"http://home.example:http":           "",
		"http://[fe80::1%25eth0]:80":         "",
		"http://[::1":                        "",
		"http://::1":                         "",
		"http://höme.example":                "", // browsers send Punycode
		"http://home%2eexample":              "",
		"http://a b":                         "",
		"http://a,http://b":                  "",
		"http://a http://b":                  "",
	} {
		got, err := Parse(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"http://hub", "https://[::1]:443", "http://[fe80::1%25eth0]", "http://a.:080", "http://%41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(got); again != got || err != nil {
			t.Errorf("%q: %q, and of that %q, %v", s, got, again, err)
		}
		_, rest, _ := strings.Cut(got, "://")
		host, port, err := net.SplitHostPort(rest)
		if err != nil || host == "" || port == "" || strings.ContainsAny(host, "/?#@% ") || strings.ToLower(got) != got {
			t.Errorf("%q: %q is not scheme, host and port: %v", s, got, err)
		}
	})
}

func TestParseProxy(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1":        "127.0.0.1/32",
		"::1":              "::1/128",
		"::ffff:10.0.0.1":  "10.0.0.1/32",
		"172.30.32.9/23":   "172.30.32.0/23",
		"2001:db8::5/32":   "2001:db8::/32",
		"fe80::1%eth0":     "",
		"10.0.0.0/33":      "",
		"proxy.lan":        "",
		"127.0.0.1:80":     "",
		"10.0.0.1 ":        "",
		"010.0.0.1":        "",
		"10.0.0.0/8,::1/8": "",
	} {
		got, err := ParseProxy(in)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v; want %q", in, got, err, want)
		}
	}
}

// ask is a request from peer to host. Further arguments are headers, "Name: value".
func ask(peer, host string, headers ...string) *http.Request {
	r := &http.Request{RemoteAddr: peer, Host: host, Header: make(http.Header)}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// Who is a program of this machine: only peer, Host and silence of proxies
// together say so.
func TestLocal(t *testing.T) {
	for _, tt := range []struct {
		loopback bool
		r        *http.Request
		want     bool
	}{
		{true, ask("127.0.0.1:5", "127.0.0.1:8080"), true},
		{true, ask("127.0.0.1:5", "localhost"), true},
		{true, ask("127.0.0.1:5", "LOCALHOST:8080"), true},
		{true, ask("127.8.8.8:5", "127.9.9.9:1"), true},
		{true, ask("[::1]:5", "[::1]:8080"), true},
		{true, ask("[::1]:5", "[::1]"), true},
		{true, ask("[::ffff:127.0.0.1]:5", "[::ffff:127.0.0.1]:8080"), true},
		{false, ask("127.0.0.1:5", "127.0.0.1:8080"), false},
		{true, ask("192.0.2.1:5", "127.0.0.1:8080"), false},
		{true, ask("", "127.0.0.1"), false},
		{true, ask("@", "127.0.0.1"), false},
		{true, ask("127.0.0.1:5", ""), false},
		{true, ask("127.0.0.1:5", "localhost.:8080"), false},
		{true, ask("127.0.0.1:5", "localhost.evil.example"), false},
		{true, ask("127.0.0.1:5", "127.0.0.1.evil.example"), false},
		{true, ask("127.0.0.1:5", "evil.localhost"), false},
		{true, ask("127.0.0.1:5", "0.0.0.0:8080"), false},
		{true, ask("127.0.0.1:5", "127.1"), false},
		{true, ask("127.0.0.1:5", "2130706433"), false},
		{true, ask("127.0.0.1:5", "[::1%25lo]:8080"), false},
		{true, ask("127.0.0.1:5", "hub.local:8080"), false},
		{true, ask("127.0.0.1:5", "localhost", "Forwarded: "), false},
		{true, ask("127.0.0.1:5", "localhost", "forwarded: for=127.0.0.1"), false},
		{true, ask("127.0.0.1:5", "localhost", "via: 1.1 x"), false},
		{true, ask("127.0.0.1:5", "localhost", "X-REAL-IP: 127.0.0.1"), false},
		{true, ask("127.0.0.1:5", "localhost", "x-forwarded-for: 127.0.0.1"), false},
		{true, ask("127.0.0.1:5", "localhost", "X-Forwarded-Prefix: /a"), false},
		{true, ask("127.0.0.1:5", "localhost", "X-Forwarded-Anything: x"), false},
		{true, ask("127.0.0.1:5", "localhost", "X-Forward: x", "User-Agent: Via"), true},
	} {
		// a trusted proxy does not speak for this machine
		for _, proxies := range [][]netip.Prefix{nil, {netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}} {
			p := Policy{Loopback: tt.loopback, Proxies: proxies}
			if got := p.Inspect(tt.r).Local; got != tt.want {
				t.Errorf("loopback %v, peer %s host %s %v: %v", tt.loopback, tt.r.RemoteAddr, tt.r.Host, tt.r.Header, got)
			}
		}
	}
}

// The address of a client is the one that the last trusted proxy saw.
func TestRemote(t *testing.T) {
	const proxy, self = "10.0.0.7:5", "10.0.0.7"
	for _, tt := range []struct {
		peer string
		want string
		said []string
	}{
		{proxy, "192.0.2.1", []string{"X-Forwarded-For: 192.0.2.1"}},
		{"[::ffff:10.0.0.7]:5", "192.0.2.1", []string{"X-Forwarded-For: 192.0.2.1"}},
		{proxy, "192.0.2.1", []string{"X-Forwarded-For: 192.0.2.1:4711"}},
		{proxy, "192.0.2.1", []string{"X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.8"}},
		{proxy, "192.0.2.1", []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"}},
		{proxy, "192.0.2.1", []string{"X-Forwarded-For: nonsense, 192.0.2.1"}},
		{proxy, "10.0.0.9", []string{"X-Forwarded-For: 10.0.0.9, 10.0.0.8"}},
		{proxy, "10.0.0.8", []string{"X-Forwarded-For: nonsense, 10.0.0.8"}},
		{proxy, "2001:db8::1", []string{"X-Forwarded-For: 2001:db8::1"}},
		{proxy, "2001:db8::1:2", []string{"X-Forwarded-For: 2001:db8::1:2"}},
		{proxy, "2001:db8::abcd", []string{"X-Forwarded-For: 2001:DB8:0::ABCD"}},
		{proxy, "2001:db8::1", []string{"X-Forwarded-For: [2001:db8::1]:4711"}},
		{proxy, "2001:db8::1", []string{"X-Forwarded-For: [2001:db8::1]"}},
		{proxy, "192.0.2.1", []string{"X-Forwarded-For: ::ffff:192.0.2.1"}},
		{proxy, "fe80::1", []string{"X-Forwarded-For: fe80::1%eth0"}},
		{proxy, "2001:db8::1", []string{`Forwarded: for="[2001:db8::1]:4711";proto=https`}},
		{proxy, "192.0.2.1", []string{"Forwarded: for=6.6.6.6, For=192.0.2.1;by=10.0.0.7"}},
		{proxy, "192.0.2.1", []string{`Forwarded: for="6.6.6.6`, "Forwarded: for=192.0.2.1"}},
		{proxy, self, []string{"Forwarded: for=unknown"}},
		{proxy, self, []string{"Forwarded: for=_hidden"}},
		{proxy, self, []string{"X-Forwarded-For: "}},
		{proxy, self, []string{"X-Forwarded-For: home.example"}},
		{proxy, self, []string{"X-Real-Ip: 192.0.2.1"}},
		{proxy, "192.0.2.1", []string{"X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"}},
		{proxy, self, []string{"X-Forwarded-For: 6.6.6.6", "Forwarded: for=192.0.2.1"}}, // one of them is the client's own
		{"203.0.113.9:5", "203.0.113.9", []string{"X-Forwarded-For: 192.0.2.1"}},        // not a trusted proxy
	} {
		p := Policy{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
		got, port, err := net.SplitHostPort(p.Inspect(ask(tt.peer, "hub", tt.said...)).Remote)
		if got != tt.want || port != "5" || err != nil {
			t.Errorf("%s says %q: %s, want %s", tt.peer, tt.said, got, tt.want)
		}
	}
}

// Which pages may connect.
func TestCheckPage(t *testing.T) {
	allowed, _ := Parse("https://page.example")
	for _, tt := range []struct {
		name string
		p    Policy
		anon bool
		r    *http.Request
		want bool
	}{
		{"no page", Policy{}, false, ask("192.0.2.1:5", "hub.lan:8080"), true},
		{"own page", Policy{}, false, ask("192.0.2.1:5", "hub.lan:8080", "Origin: http://hub.lan:8080"), true},
		{"case", Policy{}, false, ask("192.0.2.1:5", "HUB.lan:8080", "Origin: HTTP://hub.LAN:8080"), true},
		{"default port", Policy{Secure: true}, false, ask("192.0.2.1:5", "hub.lan", "Origin: https://hub.lan:443"), true},
		{"trailing dot on both", Policy{}, false, ask("192.0.2.1:5", "hub.lan.:8080", "Origin: http://hub.lan.:8080"), true},
		{"trailing dot on one", Policy{}, false, ask("192.0.2.1:5", "hub.lan.:8080", "Origin: http://hub.lan:8080"), false},
		{"other port", Policy{}, false, ask("192.0.2.1:5", "hub.lan:8080", "Origin: http://hub.lan:8081"), false},
		{"no port", Policy{}, false, ask("192.0.2.1:5", "hub.lan:8080", "Origin: http://hub.lan"), false},
		{"other scheme", Policy{}, false, ask("192.0.2.1:5", "hub.lan:8080", "Origin: https://hub.lan:8080"), false},
		{"a scheme of its own", Policy{}, false, ask("192.0.2.1:5", "hub.lan:8080", "Origin: ws://hub.lan:8080"), false},
		{"IPv6", Policy{}, false, ask("[2001:db8::9]:5", "[2001:db8::1]:8080", "Origin: http://[2001:DB8:0::1]:8080"), true},
		{"IPv6 without port", Policy{}, false, ask("[2001:db8::9]:5", "[2001:db8::1]", "Origin: http://[2001:db8::1]"), true},
		{"IPv6, other port", Policy{}, false, ask("[2001:db8::9]:5", "[2001:db8::1]:8080", "Origin: http://[2001:db8::1]"), false},
		{"null", Policy{}, false, ask("192.0.2.1:5", "hub.lan", "Origin: null"), false},
		{"empty", Policy{}, false, ask("192.0.2.1:5", "hub.lan", "Origin: "), false},
		{"two", Policy{}, false, ask("192.0.2.1:5", "hub.lan", "Origin: http://hub.lan", "Origin: http://hub.lan"), false},
		{"two in one", Policy{}, false, ask("192.0.2.1:5", "hub.lan", "Origin: http://hub.lan, http://evil.example"), false},
		{"user in it", Policy{}, false, ask("192.0.2.1:5", "hub.lan", "Origin: http://evil.example@hub.lan"), false},
		{"Host with a user", Policy{}, false, ask("192.0.2.1:5", "x@hub.lan", "Origin: http://hub.lan"), false},
		{"empty Host", Policy{}, false, ask("192.0.2.1:5", "", "Origin: http://hub.lan"), false},
		{"allowed", Policy{Allowed: []string{allowed}}, true, ask("192.0.2.1:5", "hub.lan", "Origin: https://PAGE.example"), true},
		{"allowed, other port", Policy{Allowed: []string{allowed}}, false, ask("192.0.2.1:5", "hub.lan", "Origin: https://page.example:8443"), false},
		{"allowed, subdomain", Policy{Allowed: []string{allowed}}, false, ask("192.0.2.1:5", "hub.lan", "Origin: https://a.page.example"), false},
		{"loopback", Policy{Loopback: true}, true, ask("127.0.0.1:5", "localhost:8080", "Origin: http://localhost:8080"), true},
		{"loopback, rebinding", Policy{Loopback: true}, false, ask("127.0.0.1:5", "evil.example:8080", "Origin: http://evil.example:8080"), false},
		{"loopback, rebinding without a page", Policy{Loopback: true}, false, ask("127.0.0.1:5", "evil.example:8080"), false},
		{"loopback, rebinding of an allowed page", Policy{Loopback: true, Allowed: []string{allowed}}, false, ask("127.0.0.1:5", "page.example", "Origin: https://page.example"), false},
		{"loopback, proxied", Policy{Loopback: true}, false, ask("127.0.0.1:5", "evil.example", "Origin: http://evil.example", "Via: 1.1 x"), true},
		{"anonymous, name of the Internet", Policy{}, true, ask("192.0.2.1:5", "evil.example", "Origin: http://evil.example"), false},
		{"anonymous, with a trailing dot", Policy{}, true, ask("192.0.2.1:5", "evil.example.", "Origin: http://evil.example."), false},
		{"anonymous, like a name of the home", Policy{}, true, ask("192.0.2.1:5", "lan.example", "Origin: http://lan.example"), false},
		{"anonymous, name of the home", Policy{}, true, ask("192.0.2.1:5", "HUB.Local", "Origin: http://hub.local"), true},
		{"anonymous, IPv6", Policy{}, true, ask("192.0.2.1:5", "[2001:db8::1]:8080", "Origin: http://[2001:db8::1]:8080"), true},
		{"anonymous, address", Policy{}, true, ask("192.0.2.1:5", "192.0.2.9", "Origin: http://192.0.2.9"), true},
	} {
		if err := tt.p.CheckPage(tt.r, tt.anon); (err == nil) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Behind TLS of a proxy the origin is what the proxy says, if it is trusted.
func TestCheckPageBehindProxy(t *testing.T) {
	p := Policy{Loopback: true, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	for _, tt := range []struct {
		want bool
		r    *http.Request
	}{
		{true, ask("127.0.0.1:5", "home.example", "Origin: https://home.example", "X-Forwarded-Proto: https")},
		{true, ask("127.0.0.1:5", "home.example", "Origin: https://home.example", "X-Forwarded-Proto: HTTPS")},
		{true, ask("127.0.0.1:5", "home.example", "Origin: https://home.example", "X-Forwarded-Proto: http, https")},
		{true, ask("127.0.0.1:5", "home.example", "Origin: https://home.example", "Forwarded: for=6.6.6.6;proto=http, for=192.0.2.1;Proto=https")},
		{true, ask("127.0.0.1:5", "127.0.0.1:8080", "Origin: https://home.example", "X-Forwarded-Proto: https", "X-Forwarded-Host: home.example")},
		{true, ask("127.0.0.1:5", "127.0.0.1:8080", "Origin: https://home.example", `Forwarded: proto=https;host="home.example:443"`)},
		{false, ask("127.0.0.1:5", "home.example", "Origin: https://home.example", "X-Forwarded-For: 192.0.2.1")},
		{false, ask("127.0.0.1:5", "home.example", "Origin: https://home.example", "X-Forwarded-Proto: https, http")},
		{false, ask("127.0.0.1:5", "home.example", "Origin: https://home.example", "X-Forwarded-Proto: javascript")},
		{false, ask("127.0.0.1:5", "home.example", "Origin: https://evil.example", "X-Forwarded-Proto: https")},
		{false, ask("127.0.0.1:5", "evil.example", "Origin: https://evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Host: home.example")},
		{false, ask("127.0.0.2:5", "home.example", "Origin: https://home.example", "X-Forwarded-Proto: https")}, // not trusted
	} {
		if err := p.CheckPage(tt.r, false); (err == nil) != tt.want {
			t.Errorf("%s %v: %v", tt.r.Host, tt.r.Header, err)
		}
	}
}

// Whatever a request says: it is local only as a loopback name without a proxy, an
// untrusted peer has the address of its connection, and a page that connects has
// the origin of Host.
func FuzzJudge(f *testing.F) {
	f.Add("127.0.0.1:5", "localhost:8080", "http://localhost:8080", "", "")
	f.Add("192.0.2.1:5", "hub.lan.", "http://hub.lan", "2001:db8::1:2, [::1]:5", `for="[::1]:80";proto=https`)
	f.Add("[::1]:5", "[::1]:80", "http://[::1]", "a, b", "for=,,;;=\"")
	f.Fuzz(func(t *testing.T, peer, host, from, xff, standard string) {
		r := ask(peer, host)
		for name, value := range map[string]string{"Origin": from, "X-Forwarded-For": xff, "Forwarded": standard} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		proxied := xff != "" || standard != ""
		untrusting := Policy{Loopback: true}
		if j := untrusting.Inspect(r); j.Remote != peer || j.Local && (proxied || !isLoopback(Hostname(host))) {
			t.Errorf("%+v", j)
		}
		trusting := Policy{Loopback: true, Proxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
		if j := trusting.Inspect(r); j.Remote != peer {
			if named, _, err := net.SplitHostPort(j.Remote); err != nil || net.ParseIP(named) == nil || !proxied {
				t.Errorf("the client is at %q: %v", j.Remote, err)
			}
		}
		if from == "" || untrusting.CheckPage(r, false) != nil {
			return
		}
		page, err := Parse(from)
		own, errOwn := Parse("http://" + host)
		if err != nil || errOwn != nil || page != own || !proxied && !isLoopback(Hostname(host)) {
			t.Errorf("a page of %q connects to %q", from, host)
		}
	})
}
