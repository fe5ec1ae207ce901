package config

import (
	"net"
	"net/netip"
	"strings"

	"github.com/jmbarzee/dominion/broker/origin"
)

// The addresses of [http] unless the file says otherwise.
const (
	DefaultHTTPListen    = "127.0.0.1:8080"
	DefaultHTTPListenTLS = ":8443"
)

// HTTP is [http].
type HTTP struct {
	// Listen and ListenTLS are host:port; "": no such listener.
	Listen, ListenTLS string
	// ListenIsDefault and ListenTLSIsDefault say that the file does not name the
	// address: where it is taken the hub goes on without.
	ListenIsDefault, ListenTLSIsDefault bool
	// CertFile and KeyFile are those of [broker] where [http] has none.
	CertFile, KeyFile string
	// AllowedOrigins are as origin.Parse returns them.
	AllowedOrigins []string
	// TrustedProxies have all their bits where they are addresses.
	TrustedProxies []netip.Prefix
	// FrameAncestors are origins of pages that may show the hub's in a frame, as
	// origin.Parse returns them.
	FrameAncestors []string
}

// httpSection returns [http]: listeners, what they serve, and whom the hub trusts to say
// where a request comes from.
func httpSection() section[*Dominion] {
	return section[*Dominion]{
		path: "http", asWhole: true, doc: "[MQTT for browsers, metrics, health](http.md)",
		settings: []setting[*Dominion]{
			{
				key: "listen", of: func(d *Dominion) any { return &d.HTTP.Listen }, def: DefaultHTTPListen,
				also:  func(d *Dominion) any { return d.HTTP.ListenIsDefault },
				check: optionalText(checkListen),
				doc:   "HTTP; `\"\"` for none. A default port that is taken is a problem in `status` until it is free, one that is written here ends the start",
			},
			{
				key: "listen_tls", of: func(d *Dominion) any { return &d.HTTP.ListenTLS }, def: DefaultHTTPListenTLS,
				also:  func(d *Dominion) any { return d.HTTP.ListenTLSIsDefault },
				check: optionalText(checkListen),
				doc:   "HTTPS, with a certificate for browsers of the dominion's own or `cert_file` and `key_file`; `\"\"` for none. HTTP there is redirected to it",
			},
			{
				key: "cert_file", of: func(d *Dominion) any { return &d.HTTP.CertFile }, isPath: true,
				usual: "that of `[broker]`",
				doc:   "PEM, read again when it changes",
			},
			{
				key: "key_file", of: func(d *Dominion) any { return &d.HTTP.KeyFile }, isPath: true,
				usual: "that of `[broker]`",
				doc:   "its key",
			},
			{
				key: "allowed_origins", of: func(d *Dominion) any { return &d.HTTP.AllowedOrigins },
				read: func(t *table, key string, d *Dominion) { t.originList(key, &d.HTTP.AllowedOrigins) },
				doc:  "pages that may connect beside the hub's own, as `\"https://home.example\"`: scheme, host and port",
			},
			{
				key: "trusted_proxies", of: func(d *Dominion) any { return &d.HTTP.TrustedProxies },
				read: func(t *table, key string, d *Dominion) { t.proxies(key, &d.HTTP.TrustedProxies) },
				doc:  "addresses and networks of [proxies](../how-to/http-and-proxy.md#behind-a-proxy) whose `X-Forwarded-…` and `Forwarded` are believed",
			},
			{
				key: "frame_ancestors", of: func(d *Dominion) any { return &d.HTTP.FrameAncestors },
				read: func(t *table, key string, d *Dominion) { t.originList(key, &d.HTTP.FrameAncestors) },
				doc:  "pages that may show the hub's in a frame beside its own, as `\"http://homeassistant.local:8123\"`",
			},
		},
		judge: func(in tables, d *Dominion) { in["http"].http(&d.HTTP, d.Broker, d.Metrics) },
	}
}

// http completes [http] by what depends on other keys, and checks them together.
func (t *table) http(h *HTTP, b Broker, metrics string) {
	h.ListenIsDefault, h.ListenTLSIsDefault = !t.set("listen"), !t.set("listen_tls")
	if t.valid("cert_file") && t.valid("key_file") {
		if h.CertFile != "" && h.KeyFile == "" {
			t.fault("cert_file", "write key_file too", "needs key_file")
		} else if h.KeyFile != "" && h.CertFile == "" {
			t.fault("key_file", "write cert_file too", "needs cert_file")
		}
	}
	if h.CertFile == "" && b.External == "" {
		h.CertFile, h.KeyFile = b.CertFile, b.KeyFile
	}
	t.httpAddresses(h, b, metrics)
}

// httpAddresses refuses an address that something else listens at. A default
// gives way.
func (t *table) httpAddresses(h *HTTP, b Broker, metrics string) {
	others := []struct{ key, address string }{
		{"broker.listen", b.Listen},
		{"broker.listen_tls", b.ListenTLS},
		{"broker.listen_ws", b.ListenWS},
		{"broker.listen_wss", b.ListenWSS},
		{"metrics", metrics},
	}
	if b.External != "" {
		others = others[4:]
	}
	for _, l := range []struct {
		key       string
		to        *string
		isDefault bool
	}{{"listen", &h.Listen, h.ListenIsDefault}, {"listen_tls", &h.ListenTLS, h.ListenTLSIsDefault}} {
		for _, o := range others {
			_, port, _ := net.SplitHostPort(*l.to)
			_, otherPort, _ := net.SplitHostPort(o.address)
			if port == "" || port == "0" {
				continue
			}
			if l.isDefault && port == otherPort {
				*l.to = ""
			} else if *l.to == o.address {
				t.fault(l.key, "choose another port", "listens where %s does", o.key)
			}
		}
		others = append(others, struct{ key, address string }{"http." + l.key, *l.to})
	}
}

// proxies reads a list of addresses and networks.
func (t *table) proxies(key string, to *[]netip.Prefix) {
	var all []string
	if !t.list(key, &all) {
		return
	}
	for _, s := range all {
		p, err := origin.ParseProxy(s)
		if err != nil {
			t.fault(key, `write addresses and networks, as "127.0.0.1" or "172.30.32.0/23"`, "%s is neither an address nor a network", quote(s))
			continue
		}
		*to = append(*to, p)
	}
}

func (t *table) originList(key string, to *[]string) {
	var all []string
	if !t.list(key, &all) {
		return
	}
	for _, s := range all {
		o, err := origin.Parse(s)
		if err != nil || !strings.HasPrefix(o, "http") {
			t.fault(key, `write scheme, host and port of the page's address, as "https://home.example" or "http://192.168.1.2:8123"`, "%s is not an origin", quote(s))
			continue
		}
		*to = append(*to, o)
	}
}
