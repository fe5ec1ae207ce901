// Package origin determines where an HTTP request comes from: from which machine,
// through which proxies, and from which web page.
//
// It is pure: the policy of a listener and a request in, a result out. The broker's
// WebSocket and the hub's HTTP server use it. It imports the standard library only.
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

// Policy describes a listener and what its owner allows.
type Policy struct {
	// Loopback is set if the listener is bound to loopback: only this machine reaches
	// it.
	Loopback bool
	// Secure is set for TLS.
	Secure bool
	// Allowed are the origins besides the listener's own, as Parse returns them.
	Allowed []string
	// Proxies are the proxies whose X-Forwarded-… and Forwarded headers are trusted.
	Proxies []netip.Prefix
}

// Request is what is known of a request.
type Request struct {
	// Remote is host:port of the client: of the connection, or as a trusted proxy
	// reports it.
	Remote string
	// Local reports whether the client is a program on this machine: at a loopback
	// listener, from loopback, with a Host of loopback, and not forwarded.
	Local bool
}

// Parse returns an origin, scheme://host:port, in canonical form: lower case, with its
// port, and IP addresses in their canonical form. A trailing dot is kept: to browsers
// "hub.lan." and "hub.lan" are different origins.
func Parse(s string) (string, error) {
	errInvalid := fmt.Errorf("%.80q is not an origin", s)
	scheme, rest, found := strings.Cut(s, "://")
	if !found || strings.ContainsAny(rest, "/?#@\\") {
		return "", errInvalid
	}
	u, err := url.Parse(s)
	if err != nil || scheme == "" {
		return "", errInvalid
	}
	host, valid := canonicalHost(u.Hostname())
	if !valid {
		return "", errInvalid
	}
	scheme = strings.ToLower(u.Scheme)
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", errInvalid
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.FormatUint(number, 10)), nil
}

// canonicalHost returns a host in the form that origins have. A name must be ASCII:
// browsers send others in Punycode. An IPv6 address must have no zone.
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

// ParseProxy parses an address or a network.
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

// Inspect returns what is known of a request.
func (p Policy) Inspect(r *http.Request) Request {
	isForwarded := forwarded(r.Header)
	req := Request{Remote: r.RemoteAddr}
	host, port, _ := net.SplitHostPort(r.RemoteAddr)
	req.Local = p.Loopback && !isForwarded && isLoopback(host) && isLoopback(Hostname(r.Host))
	if isForwarded && p.isTrustedProxy(host) {
		if client := p.clientAddress(r.Header); client != "" {
			req.Remote = net.JoinHostPort(client, port)
		}
	}
	return req
}

// CheckPage returns why a request must be refused: it comes from a web page of another
// origin. anonymous is set if clients without a user are admitted.
//
// A request without an Origin does not come from a page. At a loopback listener the
// Host must be a name of loopback unless a proxy forwarded the request: a page can
// give its own name our address (DNS rebinding).
func (p Policy) CheckPage(r *http.Request, anonymous bool) error {
	host := Hostname(r.Host)
	isForwarded := forwarded(r.Header)
	if p.Loopback && !isForwarded && !isLoopback(host) {
		return errors.New("the Host is not localhost: the request may come from a page whose name resolves to this address; a proxy must send X-Forwarded-For")
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
	expected, err := Parse(p.requestOrigin(r))
	if err != nil || from != expected {
		return errors.New("its page has another origin: add that to http.allowed_origins if it may connect")
	}
	if anonymous && !isLocalName(Hostname(strings.SplitN(expected, "://", 2)[1])) {
		return errors.New("its page has a public name, and anonymous clients are admitted here: add its origin to http.allowed_origins if it may connect")
	}
	return nil
}

// requestOrigin returns the origin that a request was made to, as seen by the client.
func (p Policy) requestOrigin(r *http.Request) string {
	scheme, host := "http", r.Host
	if p.Secure {
		scheme = "https"
	}
	if peer, _, _ := net.SplitHostPort(r.RemoteAddr); p.isTrustedProxy(peer) {
		fields := forwardedFields(r.Header)
		if v := firstNonEmpty(lastElement(r.Header, "X-Forwarded-Proto"), fields["proto"]); v != "" {
			scheme = strings.ToLower(v)
		}
		if v := firstNonEmpty(lastElement(r.Header, "X-Forwarded-Host"), fields["host"]); v != "" {
			host = v
		}
	}
	return scheme + "://" + host
}

// forwarded reports whether a header says that a proxy forwarded the request.
func forwarded(h http.Header) bool {
	for name := range h {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}

// isTrustedProxy reports whether a host is one of the trusted proxies.
func (p Policy) isTrustedProxy(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(p.Proxies, func(n netip.Prefix) bool { return n.Contains(a) })
}

// clientAddress returns the client's address as trusted proxies report it: the last
// one of the list that is not a trusted proxy itself. What precedes it was sent by the
// client. If X-Forwarded-For and Forwarded report different addresses, one of them may
// come from the client, so neither is used.
func (p Policy) clientAddress(h http.Header) string {
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
	address := p.lastUntrusted(standard)
	if len(h.Values("X-Forwarded-For")) > 0 && p.lastUntrusted(list) != address {
		return ""
	}
	return address
}

// lastUntrusted returns the last address of a list that is not a trusted proxy, or the
// first of the list if all are. An element that cannot be parsed ends the search.
func (p Policy) lastUntrusted(list []string) (address string) {
	for _, s := range slices.Backward(list) {
		a, valid := parseAddress(strings.TrimSpace(s))
		if !valid {
			return address
		}
		address = a.String()
		if !p.isTrustedProxy(address) {
			return address
		}
	}
	return address
}

// parseAddress parses an address as proxies write it: with or without a port, an IPv6
// address with or without brackets.
func parseAddress(s string) (a netip.Addr, valid bool) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().Unmap().WithZone(""), true
	}
	if trimmed, bracketed := strings.CutPrefix(s, "["); bracketed {
		s = strings.TrimSuffix(trimmed, "]")
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap().WithZone(""), err == nil
}

// forwardedFields returns the fields that the last proxy set in Forwarded (RFC 7239).
func forwardedFields(h http.Header) map[string]string {
	all := strings.Split(strings.Join(h.Values("Forwarded"), ","), ",")
	return parseForwarded(all[len(all)-1])
}

// parseForwarded returns the fields of one element of Forwarded.
func parseForwarded(element string) map[string]string {
	fields := make(map[string]string)
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		fields[strings.ToLower(name)] = strings.Trim(value, `"`)
	}
	return fields
}

// lastElement returns the last element of a header's list.
func lastElement(h http.Header, name string) string {
	all := strings.Split(strings.Join(h.Values(name), ","), ",")
	return strings.TrimSpace(all[len(all)-1])
}

// firstNonEmpty returns a unless it is empty.
func firstNonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// isLocalName reports whether a host has a name that the owner of a page on the
// Internet cannot give to an address of this home. Otherwise a page whose own name
// resolves to this address (DNS rebinding) has the same origin, and could do anything
// where anonymous clients are admitted.
func isLocalName(host string) bool {
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

// isLoopback reports whether a host is a name or an address of loopback.
func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// Hostname returns the host of a host with or without a port.
func Hostname(hostport string) string {
	u := url.URL{Host: hostport}
	return u.Hostname()
}
