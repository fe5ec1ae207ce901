package bundles

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/topics"
)

func TestMain(m *testing.M) {
	RunUnpack(os.Args)
	os.Exit(m.Run())
}

// registry serves one layer, as the hub's does. cut ends each answer after so many bytes; 0:
// never.
type registry struct {
	*httptest.Server
	layer   []byte
	variant topics.BundleVariant
	cut     atomic.Int64
	asked   atomic.Int64
	served  atomic.Int64
}

func pack(t *testing.T, files map[string]string) ([]byte, bundle.Content) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var layer bytes.Buffer
	z, err := bundle.Compress(&layer)
	if err != nil {
		t.Fatal(err)
	}
	content, err := bundle.Pack(dir, z)
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return layer.Bytes(), content
}

func serve(t *testing.T, layer []byte, content bundle.Digest) *registry {
	t.Helper()
	r := &registry{layer: layer, variant: topics.BundleVariant{Layer: string(bundle.DigestOf(layer)), Format: topics.FormatZstd, Content: string(content), Size: int64(len(layer))}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.asked.Add(1)
		if q.URL.Path != "/v2/web/blobs/"+r.variant.Layer {
			http.NotFound(w, q)
			return
		}
		out := &cutWriter{ResponseWriter: w, left: r.cut.Load(), served: &r.served}
		http.ServeContent(out, q, "", time.Time{}, bytes.NewReader(r.layer))
	}))
	t.Cleanup(r.Close)
	return r
}

// cutWriter breaks the connection after so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left   int64
	served *atomic.Int64
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if c.left == 0 {
		c.served.Add(int64(len(p)))
		return c.ResponseWriter.Write(p)
	}
	p = p[:min(int64(len(p)), c.left)]
	_, _ = c.ResponseWriter.Write(p)
	c.served.Add(int64(len(p)))
	if c.left -= int64(len(p)); c.left == 0 {
		panic(http.ErrAbortHandler)
	}
	return len(p), nil
}

func (r *registry) request() Request {
	return Request{Service: "web", Variant: r.variant, Addresses: []string{r.URL}, Client: r.Client()}
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Options{Dir: filepath.Join(t.TempDir(), "bundles"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Retain(nil); err != nil {
			t.Error(err)
		}
	})
	return s
}

var someFiles = map[string]string{"Makefile": "run:\n", "static/index.html": strings.Repeat("<p>", 50_000)}

// names returns what is in the directory of a store.
func (s *Store) names(t *testing.T) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(s.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != fetchDir && e.Name() != layersDir {
			all = append(all, e.Name())
		}
	}
	return all
}

// A bundle is pulled, unpacked and closed once, and then found.
func TestFetch(t *testing.T) {
	layer, content := pack(t, someFiles)
	r, s := serve(t, layer, content.Digest), open(t)
	var shown []int
	q := r.request()
	q.Progress = func(percent int) { shown = append(shown, percent) }
	dir, err := s.Fetch(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(dir) != content.Digest.Hex() || len(shown) == 0 || shown[len(shown)-1] != 100 || !slices.IsSorted(shown) {
		t.Errorf("%s, progress %v", dir, shown)
	}
	for name, text := range someFiles {
		file := filepath.Join(dir, name)
		got, err := os.ReadFile(file)
		if err != nil || string(got) != text {
			t.Errorf("%s: %v", name, err)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o555 || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if info, infoErr := e.Info(); infoErr == nil && info.Mode()&0o222 != 0 && e.Type() != fs.ModeSymlink {
			t.Errorf("%s can be written", path)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	asked := r.asked.Load()
	if again, err := s.Fetch(t.Context(), r.request()); err != nil || again != dir || r.asked.Load() != asked {
		t.Errorf("again: %s, %v, %d requests more", again, err, r.asked.Load()-asked)
	}
	unknown := r.variant
	unknown.Content = ""
	if found, is := s.Path(unknown); !is || found != dir {
		t.Errorf("by its layer: %s", found)
	}
}

// What was pulled before the connection broke is not pulled again, also in another run.
func TestFetchIsResumed(t *testing.T) {
	layer, content := pack(t, map[string]string{"Makefile": "run:\n", "data": noise(600_000)})
	r, s := serve(t, layer, content.Digest), open(t)
	r.cut.Store(200_000)
	for tries := 0; ; tries++ {
		if _, err := s.Fetch(t.Context(), r.request()); err == nil {
			break
		} else if tries > 10 {
			t.Fatal(err)
		}
		var err error
		if s, err = Open(s.o); err != nil { // as after kill -9
			t.Fatal(err)
		}
	}
	if served := r.served.Load(); served > int64(len(layer))+100_000 {
		t.Errorf("%d bytes were pulled of %d", served, len(layer))
	}
	if got := s.names(t); len(got) != 1 || got[0] != content.Digest.Hex() {
		t.Errorf("there is %v", got)
	}
}

// noise returns text that hardly compresses.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// What is not what was ordered is refused, and nothing of it is left.
func TestFetchRefuses(t *testing.T) {
	layer, content := pack(t, someFiles)
	var outside bytes.Buffer
	w := tar.NewWriter(&outside)
	if err := w.WriteHeader(&tar.Header{Name: "../../evil", Mode: 0o644, Size: 1}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("x"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var hostile bytes.Buffer
	z, err := bundle.Compress(&hostile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(outside.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for what, one := range map[string]struct {
		change func(r *registry)
		want   error
	}{
		"damaged on the way": {func(r *registry) { r.layer = bytes.Clone(r.layer); r.layer[len(r.layer)/2] ^= 1 }, errCorrupt},
		"longer":             {func(r *registry) { r.layer = append(bytes.Clone(r.layer), 0) }, nil},
		"shorter":            {func(r *registry) { r.layer = r.layer[:len(r.layer)-1] }, nil},
		"another content":    {func(r *registry) { r.variant.Content = string(bundle.DigestOf(nil)) }, errCorrupt},
		"not an archive": {func(r *registry) {
			r.layer = []byte("no zstd")
			r.variant.Layer = string(bundle.DigestOf(r.layer))
			r.variant.Size = 7
		}, errCorrupt},
		"outside": {func(r *registry) {
			r.layer = hostile.Bytes()
			r.variant.Layer = string(bundle.DigestOf(r.layer))
			r.variant.Size = int64(len(r.layer))
		}, errCorrupt},
		"another format": {func(r *registry) { r.variant.Format = "zip" }, nil},
		"not permitted":  {func(r *registry) { r.variant.Layer = string(bundle.DigestOf([]byte("other"))) }, ErrLater},
	} {
		t.Run(what, func(t *testing.T) {
			r, s := serve(t, layer, content.Digest), open(t)
			q := r.request()
			one.change(r)
			if what == "not permitted" {
				q.Variant.Layer = r.variant.Layer
				r.variant.Layer = string(bundle.DigestOf(layer))
			} else {
				q.Variant = r.variant
			}
			if _, err := s.Fetch(t.Context(), q); err == nil || one.want != nil && !errors.Is(err, one.want) {
				t.Error(err)
			}
			if got := s.names(t); len(got) != 0 {
				t.Errorf("left is %v", got)
			}
		})
	}
	s := open(t)
	if _, err := s.Fetch(t.Context(), Request{Service: "web", Variant: topics.BundleVariant{Layer: string(bundle.DigestOf(layer)), Size: 1}}); !errors.Is(err, ErrLater) {
		t.Errorf("without an address: %v", err)
	}
	s.o.Reserve = 1 << 60
	r := serve(t, layer, content.Digest)
	if _, err := s.Fetch(t.Context(), r.request()); !errors.Is(err, ErrNoSpace) {
		t.Errorf("on a full disk: %v", err)
	}
}

// What is not needed any more goes, and what was half done is gone at the next start.
func TestRetain(t *testing.T) {
	s := open(t)
	var variants []topics.BundleVariant
	for _, text := range []string{"one", "two"} {
		layer, content := pack(t, map[string]string{"Makefile": text})
		r := serve(t, layer, content.Digest)
		if _, err := s.Fetch(context.Background(), r.request()); err != nil {
			t.Fatal(err)
		}
		variants = append(variants, r.variant)
	}
	if err := os.MkdirAll(s.path(unpackPrefix+"x/y"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.path(fetchDir), strings.Repeat("0", 64)+partSuffix), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Retain(variants[:1]); err != nil {
		t.Fatal(err)
	}
	if _, is := again.Path(variants[0]); !is || len(again.names(t)) != 1 {
		t.Errorf("there is %v", again.names(t))
	}
	if left, err := os.ReadDir(s.path(fetchDir)); err != nil || len(left) != 0 {
		t.Errorf("layers: %v, %v", left, err)
	}
}
