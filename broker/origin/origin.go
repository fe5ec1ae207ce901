// Package origin judges where an HTTP request comes from: from which machine,
// through which proxies, and from which web page.
//
// It is pure: a Policy of a listener and a request in, a judgement out. The
// broker's WebSocket and the hub's HTTP server use it. It imports the standard
// library alone.
package origin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Policy is what a listener is and what its owner allows.
type Policy struct {
	Loopback bool           // bound to loopback: nobody but this machine reaches it
	Secure   bool           // TLS
	Allowed  []string       // origins beside the listener's own, as Parse returns them
	Proxies  []netip.Prefix // whose X-Forwarded-… and Forwarded headers are believed
}

// Request is what is known of a request.
type Request struct {
	// Remote is host:port of the client: of the connection, or as a trusted proxy
	// names it.
	Remote string
	// Local reports whether the client is a program of this machine: at a
	// loopback listener, from loopback, with the name of loopback as Host, and
	// not forwarded by anybody.
	Local bool
}

// Parse returns an origin, scheme://host:port, in the form that origins are compared in:
// lower case, with its port, and IP addresses in their canonical form. A
// trailing dot stays: browsers take "hub.lan." for another origin than
// "hub.lan".
func Parse(s string) (string, error) {
	wrong := fmt.Errorf("%.80q is not an origin", s)
	scheme, rest, found := strings.Cut(s, "://")
	if !found || strings.ContainsAny(rest, "/?#@\\") {
		return "", wrong
	}
	u, err := url.Parse(s)
	if err != nil || scheme == "" {
		return "", wrong
	}
	host, valid := canonicalHost(u.Hostname())
	if !valid {
		return "", wrong
	}
	scheme = strings.ToLower(u.Scheme)
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", wrong
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.FormatUint(number, 10)), nil
}

// canonicalHost returns a host as origins have it. A name is of ASCII: browsers
// send others in Punycode. An IPv6 address has no zone.
func canonicalHost(host string) (canonical string, valid bool) {
	if strings.Contains(host, ":") {
		a, err := netip.ParseAddr(host)
		return a.String(), err == nil && a.Zone() == ""
	}
	host = strings.ToLower(host)
	other := strings.IndexFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
	return host, host != "" && other < 0
}

// ParseProxy reads an address or a network.
func ParseProxy(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%.80q is neither an address nor a network", s)
	}
	return p.Masked(), nil
}

// Judge returns what is known of a request.
func (p Policy) Judge(r *http.Request) Request {
	passed := forwarded(r.Header)
	j := Request{Remote: r.RemoteAddr}
	host, port, _ := net.SplitHostPort(r.RemoteAddr)
	j.Local = p.Loopback && !passed && isLoopback(host) && isLoopback(Hostname(r.Host))
	if passed && p.trusts(host) {
		if client := p.client(r.Header); client != "" {
			j.Remote = net.JoinHostPort(client, port)
		}
	}
	return j
}

// CheckPage returns why a request must not become a connection: it comes from a
// web page of another origin. anonymous says that who has no user is let in.
//
// Without an Origin it is from no page. At a loopback listener the Host must be
// loopback by name unless a proxy forwarded it: a page can give its own name our
// address (DNS rebinding).
func (p Policy) CheckPage(r *http.Request, anonymous bool) error {
	host := Hostname(r.Host)
	passed := forwarded(r.Header)
	if p.Loopback && !passed && !isLoopback(host) {
		return errors.New("the Host is not localhost: a page may have given its own name this address; a proxy must send X-Forwarded-For")
	}
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return nil
	}
	if len(origins) != 1 {
		return errors.New("it has several Origin headers")
	}
	from, err := Parse(origins[0])
	if err != nil {
		return err
	}
	if slices.Contains(p.Allowed, from) {
		return nil
	}
	own, err := Parse(p.own(r))
	if err != nil || from != own {
		return errors.New("its page is of another origin: write it into http.allowed_origins if it may connect")
	}
	if anonymous && !atHome(Hostname(strings.SplitN(own, "://", 2)[1])) {
		return errors.New("its page has a name of the Internet, and users may not be needed here: write its origin into http.allowed_origins if it may connect")
	}
	return nil
}

// own returns the origin that a request was made to.
func (p Policy) own(r *http.Request) string {
	scheme, host := "http", r.Host
	if p.Secure {
		scheme = "https"
	}
	if peer, _, _ := net.SplitHostPort(r.RemoteAddr); p.trusts(peer) {
		fields := forwardedFields(r.Header)
		if v := first(lastOf(r.Header, "X-Forwarded-Proto"), fields["proto"]); v != "" {
			scheme = strings.ToLower(v)
		}
		if v := first(lastOf(r.Header, "X-Forwarded-Host"), fields["host"]); v != "" {
			host = v
		}
	}
	return scheme + "://" + host
}

// forwarded reports whether a proxy says that it passed a request on.
func forwarded(h http.Header) bool {
	for name := range h {
		switch {
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", strings.HasPrefix(name, "X-Forwarded-"):
			return true
		}
	}
	return false
}

func (p Policy) trusts(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(p.Proxies, func(n netip.Prefix) bool { return n.Contains(a) })
}

// client returns the address that trusted proxies name: the last one of the
// list that is not of a trusted proxy itself. What stands before it is what the
// client says. Where X-Forwarded-For and Forwarded name different addresses, one
// of them may be the client's own, so neither is believed.
func (p Policy) client(h http.Header) string {
	var list, standard []string
	for part := range strings.SplitSeq(strings.Join(h.Values("X-Forwarded-For"), ","), ",") {
		list = append(list, part)
	}
	for part := range strings.SplitSeq(strings.Join(h.Values("Forwarded"), ","), ",") {
		standard = append(standard, parseForwarded(part)["for"])
	}
	if len(h.Values("Forwarded")) == 0 {
		return p.lastUntrusted(list)
	}
	named := p.lastUntrusted(standard)
	if len(h.Values("X-Forwarded-For")) > 0 && p.lastUntrusted(list) != named {
		return ""
	}
	return named
}

// lastUntrusted returns the last address of a list that is not of a trusted
// proxy, or the first of those that are. What cannot be read ends the list.
func (p Policy) lastUntrusted(list []string) (named string) {
	for _, s := range slices.Backward(list) {
		a, valid := addressIn(strings.TrimSpace(s))
		if !valid {
			return named
		}
		named = a.String()
		if !p.trusts(named) {
			return named
		}
	}
	return named
}

// addressIn reads an address as proxies write it: with or without a port, an IPv6
// address with or without brackets.
func addressIn(s string) (a netip.Addr, valid bool) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().Unmap().WithZone(""), true
	}
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		s = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err == nil
}

// forwardedFields returns what the last proxy says in Forwarded (RFC 7239).
func forwardedFields(h http.Header) map[string]string {
	all := strings.Split(strings.Join(h.Values("Forwarded"), ","), ",")
	return parseForwarded(all[len(all)-1])
}

func parseForwarded(element string) map[string]string {
	fields := make(map[string]string)
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		fields[strings.ToLower(name)] = strings.Trim(value, `"`)
	}
	return fields
}

func lastOf(h http.Header, name string) string {
	all := strings.Split(strings.Join(h.Values(name), ","), ",")
	return strings.TrimSpace(all[len(all)-1])
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// atHome reports whether a host is named in a way that the owner of a page on
// the Internet cannot give to an address of this home: a page whose own name
// leads here (DNS rebinding) is of the same host. Where everybody is let in it
// would do what it likes.
func atHome(host string) bool {
	if net.ParseIP(host) != nil || !strings.Contains(host, ".") {
		return true
	}
	host = strings.ToLower(host)
	for _, ending := range []string{".local", ".lan", ".home", ".internal", ".home.arpa", ".localhost"} {
		if strings.HasSuffix(host, ending) {
			return true
		}
	}
	return false
}

func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// Hostname returns the host of a host with or without a port.
func Hostname(hostport string) string {
	u := url.URL{Host: hostport}
	return u.Hostname()
}
