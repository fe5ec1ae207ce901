package config

import (
	"net"
	"net/netip"
)

// OpenToAll is the warning about a broker that has users and lets everybody in
// without one.
const OpenToAll = "allow_anonymous = true in [broker] makes an admin of everybody in the network who gives no user, so the passwords and roles of the users protect nothing: set it to false, or delete the users"

// Warnings returns what of the configuration is permitted and hardly meant, a line
// each.
func (d Dominion) Warnings() string {
	b := d.Broker
	if b.External == "" && b.AllowAnonymous && len(b.Users) > 0 &&
		(d.OpenHTTP() || d.open(b.Listen, b.ListenWS, b.ListenTLS, b.ListenWSS)) {
		return "warning: " + OpenToAll + "\n"
	}
	return ""
}

// OpenHTTP reports whether other machines reach an address of HTTP, where MQTT is
// spoken over WebSocket, without a certificate of their own.
func (d Dominion) OpenHTTP() bool {
	return d.open(d.HTTP.Listen, d.Metrics, d.HTTP.ListenTLS, "")
}

// open reports whether other machines reach one of these addresses without a
// certificate of their own.
func (d Dominion) open(plain, furtherPlain, tls, furtherTLS string) bool {
	return reachable(plain) || reachable(furtherPlain) || !d.Broker.RequireCertificate && (reachable(tls) || reachable(furtherTLS))
}

// reachable reports whether a listener at an address is reached by other machines.
func reachable(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.Unmap().IsLoopback()
}
