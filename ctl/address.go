package ctl

import (
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/internal/passwordfile"
)

// target is a broker to ask.
type target struct {
	url      string // mqtt[s]://host:port, nobody's name in it
	user     string
	password string
	prefix   string // of the topics; "" is the default one
	named    bool   // by the user, so that nothing else is tried
	found    bool   // a control socket that a broker has named: who listens there is checked
}

// target reads the flags and DOMINION_URL: a flag beats what it names there.
func (a *app) target() (target, error) {
	t := target{prefix: a.prefix, named: true}
	from, address := "--hub", a.hub
	if address == "" {
		from, address = "DOMINION_URL", a.env.Getenv("DOMINION_URL")
		a.asService(address)
	}
	if address == "" {
		from, address, t.named = "the built-in address", a.env.local, false
	}
	var err error
	if t.url, t.user, err = parseAddress(from, address, a.caFile != ""); err != nil {
		return target{}, err
	}
	if a.user != "" {
		t.user = a.user
	}
	if t.named && a.caFile != "" && !locate.Encrypted(t.url) {
		return target{}, fail(ExitUsage, "write mqtts://, or leave --cafile out", "%s is not encrypted: --cafile would check nothing", t.url)
	}
	if a.caFile != "" {
		pem, err := os.ReadFile(a.caFile)
		if err != nil {
			return target{}, fail(ExitUsage, "name a file of certificates, PEM", "cannot read --cafile: %v", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return target{}, fail(ExitUsage, "name a file of certificates, PEM", "there is no certificate in --cafile %s", a.caFile)
		}
	}
	if strings.ContainsAny(t.prefix, "+#") || strings.HasSuffix(t.prefix, "/") {
		return target{}, fail(ExitUsage, "write it as topic_prefix of the hub's configuration", "%q cannot be a prefix of topics", t.prefix)
	}
	if a.passwordFile != "" {
		if t.user == "" {
			return target{}, fail(ExitUsage, "add --user NAME", "a password without a user")
		}
		password, err := passwordfile.Read(a.passwordFile)
		if err != nil {
			return target{}, fail(ExitUsage, passwordHint, "cannot read --password-file: %v", err)
		}
		t.password = password
	}
	return t, nil
}

// asService takes the certificate that a service has in its environment beside DOMINION_URL, unless
// the flags or the address name another user.
func (a *app) asService(address string) {
	if !locate.Encrypted(address) || strings.Contains(address, "@") || a.user != "" || a.caFile != "" || a.certFile != "" {
		return
	}
	a.caFile, a.certFile, a.keyFile = a.env.Getenv("DOMINION_CA_FILE"), a.env.Getenv("DOMINION_CERT_FILE"), a.env.Getenv("DOMINION_KEY_FILE")
}

const passwordHint = "name a file with the password on its first line"

// parseAddress reads mqtt[s]://[user@]host[:port], [user@]host[:port] and unix:PATH;
// the second is asked by TLS if tls says so.
func parseAddress(from, s string, tls bool) (address, user string, err error) {
	wrong := func(message string) (string, string, error) {
		return "", "", fail(ExitUsage, "write host:port, or mqtt[s]://user@host:port", "%s: %s", from, message)
	}
	if path, is := strings.CutPrefix(s, controlScheme); is {
		if path = strings.TrimPrefix(path, "//"); path == "" {
			return wrong("it names no socket")
		}
		return controlScheme + path, "", nil
	}
	if !strings.Contains(s, "://") {
		scheme := "mqtt://"
		if tls {
			scheme = "mqtts://"
		}
		name, host := "", s
		if i := strings.LastIndex(s, "@"); i >= 0 {
			name, host = s[:i+1], s[i+1:]
		}
		if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
			host = "[" + host + "]" // an IPv6 address without a port
		}
		s = scheme + name + host
	}
	u, err := url.Parse(s)
	if err != nil {
		return wrong("cannot read it as an address") // its text would show a password
	}
	if u.User != nil {
		if _, set := u.User.Password(); set {
			return "", "", fail(ExitUsage, "write the password into a file only you can read, and name that with --password-file",
				"%s holds a password, which others on this machine could read", from)
		}
		user = u.User.Username()
	}
	port := locate.PortMQTT
	switch u.Scheme {
	case "mqtt":
	case "mqtts":
		port = locate.PortMQTTS
	default:
		return wrong("there is no scheme " + strconv.Quote(u.Scheme))
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && strings.ContainsAny(u.Hostname(), ": ") {
		return wrong(strconv.Quote(u.Host) + " is not host:port")
	}
	if u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return wrong(strconv.Quote(s) + " is not a valid broker address")
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil || port < 1 || port > 65535 {
			return wrong(p + " is not a valid port")
		}
	}
	return u.Scheme + "://" + net.JoinHostPort(u.Hostname(), strconv.Itoa(port)), user, nil
}
