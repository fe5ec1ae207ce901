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
	// Listen and ListenTLS are host:port; "": no such listener. ListenTLS is
	// empty where neither it nor CertFile is written.
	Listen, ListenTLS string
	// ListenIsDefault and ListenTLSIsDefault say that the file does not name the
	// address: where it is taken the hub goes on without.
	ListenIsDefault, ListenTLSIsDefault bool
	// CertFile and KeyFile are those of [broker] where [http] has none.
	CertFile, KeyFile string
	AllowedOrigins    []string       // as origin.Parse returns them
	TrustedProxies    []netip.Prefix // addresses have all their bits
	FrameAncestors    []string       // origins of pages that may show ours in a frame, as origin.Parse returns them
}

func (t *table) http(h *HTTP, b Broker, metrics string) {
	defer t.close()
	for _, l := range []struct {
		key string
		to  *string
	}{{"listen", &h.Listen}, {"listen_tls", &h.ListenTLS}} {
		if t.text(l.key, l.to) && *l.to != "" {
			checkListen(*l.to).report(t, l.key)
		}
	}
	h.ListenIsDefault, h.ListenTLSIsDefault = !t.set("listen"), !t.set("listen_tls")
	t.file("cert_file", &h.CertFile)
	t.file("key_file", &h.KeyFile)
	if t.fine("cert_file") && t.fine("key_file") {
		switch {
		case h.CertFile != "" && h.KeyFile == "":
			t.fault("cert_file", "write key_file too", "needs key_file")
		case h.KeyFile != "" && h.CertFile == "":
			t.fault("key_file", "write cert_file too", "needs cert_file")
		}
	}
	if h.ListenTLSIsDefault && h.CertFile == "" {
		h.ListenTLS = ""
	}
	if h.CertFile == "" && b.External == "" {
		h.CertFile, h.KeyFile = b.CertFile, b.KeyFile
	}
	if h.ListenTLS != "" && h.CertFile == "" && t.fine("cert_file") && t.fine("listen_tls") {
		t.fault("listen_tls", "write them too", "needs cert_file and key_file")
	}
	t.origins(h)
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
			switch {
			case port == "" || port == "0":
			case l.isDefault && port == otherPort:
				*l.to = ""
			case *l.to == o.address:
				t.fault(l.key, "choose another port", "listens where %s does", o.key)
			}
		}
		others = append(others, struct{ key, address string }{"http." + l.key, *l.to})
	}
}

func (t *table) origins(h *HTTP) {
	t.originList("allowed_origins", &h.AllowedOrigins)
	t.originList("frame_ancestors", &h.FrameAncestors)
	var all []string
	if t.list("trusted_proxies", &all) {
		for _, s := range all {
			p, err := origin.ParseProxy(s)
			if err != nil {
				t.fault("trusted_proxies", `write addresses and networks, as "127.0.0.1" or "172.30.32.0/23"`, "%s is neither an address nor a network", quote(s))
				continue
			}
			h.TrustedProxies = append(h.TrustedProxies, p)
		}
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
