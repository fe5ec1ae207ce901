package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// problem is what is wrong with a value and what to do; the zero one: nothing.
type problem struct{ message, hint string }

func (p problem) report(t *table, key string) {
	if p.message != "" {
		t.fault(key, p.hint, "%s", p.message)
	}
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?$`)

func validHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= 253 && hostPattern.MatchString(s)
}

func validPort(s string, least uint64) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n >= least
}

// checkListen checks an address to listen at: host:port, the host may be
// empty, port 0 is any free one.
func checkListen(s string) problem {
	const hint = `write ":1883" for every address of this machine, "127.0.0.1:1883" for this machine alone`
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil:
		return problem{quote(s) + " is not host:port", hint}
	case host != "" && !validHost(host):
		return problem{quote(host) + " is neither an IP address nor the name of a host", hint}
	case !validPort(port, 0):
		return problem{quote(port) + " is not a valid port", "use 1 to 65535"}
	}
	return problem{}
}

// checkServer checks host:port of something to connect to.
func checkServer(s string) problem {
	const hint = `write "host" for TLS at port 8883, or "host:1883"`
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil:
		return problem{quote(s) + " is not host:port", hint}
	case !validHost(host):
		return problem{quote(host) + " is neither an IP address nor the name of a host", hint}
	case !validPort(port, 1):
		return problem{quote(port) + " is not a valid port", "use 1 to 65535"}
	}
	return problem{}
}

// checkURL checks mqtt[s]://[user@]host:port and returns its parts. Nothing
// that it says repeats the URL: there may be a password in it.
func checkURL(s string) (*url.URL, problem) {
	const hint = `write "mqtt://host:1883" or "mqtts://host:8883"`
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, problem{"is no URL", hint}
	case u.Scheme != "mqtt" && u.Scheme != "mqtts":
		return nil, problem{quote(u.Scheme) + " is no scheme of a broker", hint}
	case u.Opaque != "" || u.Host == "":
		return nil, problem{"names no host", hint}
	case u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, problem{"goes on after host and port", hint}
	case u.User != nil && u.User.Username() == "":
		return nil, problem{"has an empty user", `write "mqtts://user@host:8883"`}
	}
	if _, hasPassword := u.User.Password(); u.User != nil && hasPassword {
		return nil, problem{"holds a password", "take it out and write password_file"}
	}
	if u.Port() == "" {
		return nil, problem{"names no port", hint}
	}
	if strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(u.Host, "[") {
		return nil, problem{"has an IPv6 address without brackets", `write "mqtt://[::1]:1883"`}
	}
	return u, checkServer(net.JoinHostPort(u.Hostname(), u.Port()))
}

func isText(s string) bool { return strings.ToValidUTF8(s, "") == s }

// quote returns s quoted and cut to what a line can hold.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}
