package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Browser is the root that people install in browsers and on phones, and the leaf that the
// HTTPS listener serves. The root can vouch for names and addresses of a home alone.
type Browser struct {
	Root *x509.Certificate
	// Leaf is what the HTTPS listener serves; nil until it was made.
	Leaf *x509.Certificate

	dominion string
	name     string
	rootKey  *ecdsa.PrivateKey
	key      *ecdsa.PrivateKey
}

// homeDomains are the domains of home networks; localhost is the machine itself.
var homeDomains = []string{"local", "lan", "home.arpa", "internal", "localhost"}

// privateRanges are the addresses of private networks (RFC 1918, RFC 4193), of the local
// link, and of loopback.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128"),
}

// openBrowser reads the root and the leaf for browsers, and makes what there is not yet. The
// root is made for the hub's own names of that time.
func openBrowser(store *Store, o HubOptions, at time.Time) (*Browser, error) {
	b := &Browser{dominion: o.Dominion, name: o.Name}
	var err error
	if b.rootKey, err = store.Key(browserRootKeyFile, false); err != nil {
		return nil, err
	}
	if b.key, err = store.Key(browserKeyFile, false); err != nil {
		return nil, err
	}
	if c := store.Certificates(browserRootCertFile); c != nil && b.rootKey.PublicKey.Equal(c[0].PublicKey) {
		b.Root = c[0]
	} else {
		if b.Root, err = b.makeRoot(o.Names, at); err != nil {
			return nil, err
		}
		if err := store.PutCertificates(browserRootCertFile, b.Root); err != nil {
			return nil, err
		}
	}
	if c := store.Certificates(browserCertFile); c != nil && b.key.PublicKey.Equal(c[0].PublicKey) && c[0].CheckSignatureFrom(b.Root) == nil {
		b.Leaf = c[0]
	}
	return b, nil
}

// makeRoot makes the certificate of the root.
func (b *Browser) makeRoot(names Names, at time.Time) (*x509.Certificate, error) {
	hash, err := HashKey(&b.rootKey.PublicKey)
	if err != nil {
		return nil, err
	}
	permitted := slices.Clone(homeDomains)
	for _, host := range names.Hosts {
		if !slices.Contains(permitted, host) && !inDomains(host, homeDomains) {
			permitted = append(permitted, host)
		}
	}
	var ranges []*net.IPNet
	for _, p := range privateRanges {
		ranges = append(ranges, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	t := &x509.Certificate{
		SerialNumber:                serial(at),
		Subject:                     pkix.Name{CommonName: "Dominion browser root " + hash[:8], Organization: []string{b.dominion}},
		NotBefore:                   notBefore,
		NotAfter:                    end(at, AuthorityLifetime),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         permitted,
		PermittedIPRanges:           ranges,
	}
	return create(t, t, &b.rootKey.PublicKey, b.rootKey)
}

// inDomains reports whether a host is one of the domains, or below one.
func inDomains(host string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return host == d || strings.HasSuffix(host, "."+d) })
}

// allowed returns those names that the root can vouch for.
func (b *Browser) allowed(n Names) Names {
	var in Names
	for _, host := range n.Hosts {
		if inDomains(host, b.Root.PermittedDNSDomains) {
			in.Hosts = append(in.Hosts, host)
		}
	}
	for _, a := range n.Addresses {
		if slices.ContainsFunc(privateRanges, func(p netip.Prefix) bool { return p.Contains(a) }) {
			in.Addresses = append(in.Addresses, a)
		}
	}
	return in
}

// leafSlack is how far the clock of a browser may be behind the hub's.
const leafSlack = 24 * time.Hour

// renew makes the leaf anew. Unlike all others it begins at its time: browsers refuse one
// that lasts longer than BrowserLifetime from its beginning to its end, and they have a clock.
func (b *Browser) renew(store *Store, n Names, at time.Time) error {
	n = b.allowed(n)
	t := &x509.Certificate{
		SerialNumber:          serial(at),
		Subject:               pkix.Name{CommonName: "Dominion hub"},
		NotBefore:             at.Add(-leafSlack).UTC().Truncate(time.Second),
		DNSNames:              n.Hosts,
		IPAddresses:           ipsOf(n.Addresses),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	t.NotAfter = t.NotBefore.Add(BrowserLifetime - time.Second)
	leaf, err := create(t, b.Root, &b.key.PublicKey, b.rootKey)
	if err != nil {
		return err
	}
	if err := store.PutCertificates(browserCertFile, leaf); err != nil {
		return err
	}
	b.Leaf = leaf
	return nil
}

// TLS returns what the HTTPS listener serves.
func (b *Browser) TLS() tls.Certificate {
	return TLSCertificate(b.key, []*x509.Certificate{b.Leaf, b.Root})
}

// PEM returns the root for /browser-ca.crt.
func (b *Browser) PEM() []byte { return EncodeCertificates(b.Root) }

// MobileConfig returns the root for /browser-ca.mobileconfig: a configuration profile of
// iOS and macOS. The same root gives the same profile.
func (b *Browser) MobileConfig() []byte {
	title := "Dominion"
	if b.name != "" {
		title += " " + b.name
	}
	var text strings.Builder
	if err := xml.EscapeText(&text, []byte(title)); err != nil {
		text.WriteString("Dominion") // a Builder does not fail
	}
	sum := sha256.Sum256(b.Root.Raw)
	var out bytes.Buffer
	fmt.Fprintf(&out, profile, base64.StdEncoding.EncodeToString(b.Root.Raw), text.String(), b.dominion, uuid(sum[:16]), uuid(sum[16:]))
	return out.Bytes()
}

// uuid returns 16 bytes as a UUID (RFC 9562, version 8: by its maker's own rule).
func uuid(b []byte) string {
	u := [16]byte(b)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

// profile has the certificate, title, dominion id, and two UUIDs.
const profile = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadCertificateFileName</key>
			<string>browser-ca.crt</string>
			<key>PayloadContent</key>
			<data>%[1]s</data>
			<key>PayloadDisplayName</key>
			<string>%[2]s</string>
			<key>PayloadIdentifier</key>
			<string>dominion.%[3]s.browser-ca.root</string>
			<key>PayloadType</key>
			<string>com.apple.security.root</string>
			<key>PayloadUUID</key>
			<string>%[4]s</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
		</dict>
	</array>
	<key>PayloadDescription</key>
	<string>Lets this device verify the pages of %[2]s. It vouches for names and addresses of a home network alone.</string>
	<key>PayloadDisplayName</key>
	<string>%[2]s</string>
	<key>PayloadIdentifier</key>
	<string>dominion.%[3]s.browser-ca</string>
	<key>PayloadRemovalDisallowed</key>
	<false/>
	<key>PayloadType</key>
	<string>Configuration</string>
	<key>PayloadUUID</key>
	<string>%[5]s</string>
	<key>PayloadVersion</key>
	<integer>1</integer>
</dict>
</plist>
`
