package ctl

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/topics"
)

// pushTime bounds a push.
const pushTime = time.Hour

// pushSource stores what is deployed in the hub's registry, and returns its version.
func (a *app) pushSource(ctx context.Context, s *session, src source) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	to, err := a.registryOf(ctx, s, src.name)
	if err != nil {
		return "", err
	}
	if src.dir == "" {
		version, err = copyReference(ctx, src, to)
	} else {
		version, err = a.pushDirectory(ctx, src, to)
	}
	if err != nil && ctx.Err() == nil {
		return "", fail(ExitFailed, hintPush(err), "cannot push %s: %v", src.name, err)
	}
	return version, err
}

// hintPush is what to do about a push that failed.
func hintPush(err error) string {
	switch {
	case errors.As(err, new(*bundle.EntryError)):
		return "remove it, or name it in " + bundle.IgnoreFile
	case strings.Contains(err.Error(), "another content already"):
		return "give it another version: --version, or in its service.toml"
	}
	return ""
}

// registryOf returns the repository of a service in the hub's registry: by the socket on the
// hub's machine, else by HTTPS with the user or the certificate of this session.
func (a *app) registryOf(ctx context.Context, s *session, service string) (*remote.Repository, error) {
	status, err := s.hubStatus(ctx)
	if err != nil {
		return nil, err
	}
	if path, control := strings.CutPrefix(s.where, controlScheme); control {
		socket := filepath.Join(filepath.Dir(path), "registry.socket")
		if _, err := os.Stat(socket); err != nil {
			socket = filepath.Join(filepath.Dir(path), "registry")
		}
		repository, err := remote.NewRepository("localhost/" + service)
		if err != nil {
			return nil, fmt.Errorf("cannot name the repository: %w", err)
		}
		repository.PlainHTTP = true
		repository.Client = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		}}
		return repository, nil
	}
	at, err := registryAddress(s.where, status.Registry)
	if err != nil {
		return nil, err
	}
	repository, err := remote.NewRepository(at + "/" + service)
	if err != nil {
		return nil, fmt.Errorf("cannot name the repository: %w", err)
	}
	secure, err := a.registryTLS(at)
	if err != nil {
		return nil, err
	}
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	client := &auth.Client{Cache: auth.NewCache(), Client: &http.Client{Transport: &http.Transport{TLSClientConfig: secure, ForceAttemptHTTP2: true}}}
	if t.user != "" {
		client.Credential = auth.StaticCredential(at, auth.Credential{Username: t.user, Password: t.password})
	}
	repository.Client = client
	return repository, nil
}

// registryAddress returns host and port of the registry: on the host that this session is
// connected to, at the port that the hub names.
func registryAddress(where string, registry []string) (string, error) {
	if len(registry) == 0 {
		return "", fail(ExitFailed, "on the hub's machine deploy works by its control socket; elsewhere the hub needs [http] listen_tls", "the hub serves no registry to other machines")
	}
	u, err := url.Parse(registry[0])
	if err != nil {
		return "", fmt.Errorf("cannot read the address of the registry: %w", err)
	}
	hub, err := url.Parse(where)
	if err != nil || hub.Hostname() == "" {
		return u.Host, nil
	}
	return net.JoinHostPort(hub.Hostname(), u.Port()), nil
}

// registryTLS returns how the registry at an address is connected to.
func (a *app) registryTLS(at string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.certFile != "" {
		pair, err := tls.LoadX509KeyPair(a.certFile, a.keyFile)
		if err != nil {
			return nil, fmt.Errorf("cannot use --cert and --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if a.caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(a.caFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read --cafile: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %s", a.caFile)
	}
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		return nil, fmt.Errorf("cannot read the address of the registry: %w", err)
	}
	// To who asks for the hub's own name the hub shows the certificate of the authority, as the
	// broker does, and not the one for browsers. It names the host too.
	config.InsecureSkipVerify, config.ServerName = true, topics.HubServerName
	config.VerifyConnection = func(state tls.ConnectionState) error {
		between := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		return err
	}
	return config, nil
}

// pushDirectory packs a directory and pushes it.
func (a *app) pushDirectory(ctx context.Context, src source, to *remote.Repository) (version string, err error) {
	packed, err := packDirectory(src)
	if err != nil {
		return "", err
	}
	defer packed.remove()
	version = src.version
	if version == "" {
		version = packed.layer.Content.Version()
	}
	if err := pushBlob(ctx, to, packed.layer.MediaType, packed.layer.Digest, packed.layer.Size, packed.file, a.pushProgress(packed.layer.Size)); err != nil {
		return "", err
	}
	config := packed.config
	if err := pushBlob(ctx, to, bundle.ConfigType, bundle.DigestOf(config), int64(len(config)), strings.NewReader(string(config)), nil); err != nil {
		return "", err
	}
	text, err := bundle.Manifest{Config: bundle.DigestOf(config), ConfigSize: int64(len(config)), Layer: packed.layer}.Encode()
	if err != nil {
		return "", err
	}
	mediaType := ocispec.MediaTypeImageManifest
	if len(src.platforms) > 0 {
		if err := to.Push(ctx, content.NewDescriptorFromBytes(mediaType, text), strings.NewReader(string(text))); err != nil {
			return "", err
		}
		var variants []bundle.Variant
		for _, p := range src.platforms {
			platform, err := bundle.ParsePlatform(p)
			if err != nil {
				return "", err
			}
			variants = append(variants, bundle.Variant{Platform: platform, Manifest: bundle.DigestOf(text), Size: int64(len(text))})
		}
		if text, err = bundle.EncodeIndex(variants); err != nil {
			return "", err
		}
		mediaType = ocispec.MediaTypeImageIndex
	}
	return version, to.PushReference(ctx, content.NewDescriptorFromBytes(mediaType, text), strings.NewReader(string(text)), bundle.Tag(version))
}

// pushBlob pushes a blob that is not in the registry yet.
func pushBlob(ctx context.Context, to *remote.Repository, mediaType string, d bundle.Digest, size int64, from io.Reader, progress func(int64)) error {
	descriptor := ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(d), Size: size}
	there, err := to.Exists(ctx, descriptor)
	if err != nil || there {
		return err
	}
	if progress != nil {
		from = &progressReader{r: from, report: progress}
	}
	return to.Push(ctx, descriptor, from)
}

// progressReader reports how many bytes were read.
type progressReader struct {
	r      io.Reader
	read   int64
	report func(int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.read += int64(n)
	p.report(p.read)
	return n, err
}

// pushProgress returns what shows the progress of a push on a terminal; nil: nothing does.
func (a *app) pushProgress(size int64) func(int64) {
	if !a.interactive || a.json || size < 1<<20 {
		return nil
	}
	shown := int64(-10)
	return func(read int64) {
		if percent := 100 * read / size; percent >= shown+10 {
			shown = percent - percent%10
			a.infof("… pushed %d %%", shown)
		}
	}
}

// packed is a directory that was packed into a file.
type packed struct {
	file   *os.File
	layer  bundle.Layer
	config []byte
}

func (p packed) remove() {
	_ = p.file.Close()
	_ = os.Remove(p.file.Name())
}

// packDirectory packs a directory into a temporary file.
func packDirectory(src source) (p packed, err error) {
	if p.config, err = configOf(src); err != nil {
		return packed{}, err
	}
	if p.file, err = os.CreateTemp("", "dominion-bundle-"); err != nil {
		return packed{}, fmt.Errorf("cannot pack: %w", err)
	}
	defer func() {
		if err != nil {
			p.remove()
		}
	}()
	sum := &summing{w: p.file, hash: sha256.New()}
	z, err := bundle.Compress(sum)
	if err != nil {
		return packed{}, err
	}
	c, err := bundle.Pack(src.dir, z)
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return packed{}, err
	}
	if c.Files == 0 {
		return packed{}, fmt.Errorf("there is no file in %s", src.dir)
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return packed{}, fmt.Errorf("cannot pack: %w", err)
	}
	p.layer = bundle.Layer{MediaType: bundle.LayerZstd, Digest: bundle.Digest("sha256:" + hex.EncodeToString(sum.hash.Sum(nil))), Size: sum.size, Content: c.Digest}
	return p, nil
}

// summing is a writer that hashes and counts.
type summing struct {
	w    io.Writer
	hash hash.Hash
	size int64
}

func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	return n, err
}

// configOf returns the config of a bundle: what service.toml says, as JSON.
func configOf(src source) ([]byte, error) {
	keys := make(map[string]any)
	if src.toml.File != "" {
		if _, err := toml.DecodeFile(src.toml.File, &keys); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("cannot read service.toml: %w", err)
		}
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("cannot encode service.toml: %w", err)
	}
	return text, nil
}

// copyReference copies a bundle of another registry to the hub, with all of its platforms.
func copyReference(ctx context.Context, src source, to *remote.Repository) (string, error) {
	from, err := remote.NewRepository(src.reference)
	if err != nil {
		return "", fmt.Errorf("%q is not a reference: write it as oci://ghcr.io/someone/web:1.4.0: %w", src.reference, err)
	}
	if store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{}); err == nil {
		from.Client = &auth.Client{Credential: credentials.Credential(store)}
	}
	if host := from.Reference.Host(); host == "localhost" || strings.HasPrefix(host, "127.") || strings.HasPrefix(host, "localhost:") {
		from.PlainHTTP = true
	}
	reference := from.Reference.Reference
	if reference == "" {
		return "", fmt.Errorf("%s has no version: write it as oci://%s:1.4.0", src.reference, src.reference)
	}
	version := src.version
	if version == "" {
		if version = strings.ReplaceAll(reference, "_", "+"); !topics.ValidVersion(version) {
			return "", fmt.Errorf("%q is no version: give one with --version", reference)
		}
	}
	if _, err := oras.Copy(ctx, from, reference, to, bundle.Tag(version), oras.DefaultCopyOptions); err != nil {
		return "", err
	}
	return version, nil
}
