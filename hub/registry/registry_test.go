package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	oci "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/jmbarzee/dominion/bundle"
)

type server struct {
	*Registry
	t   *testing.T
	dir string
	url string
}

// serve serves a registry. The header "As" of a request says who sends it: "admin", or the
// id of a domain.
func serve(t *testing.T, change ...func(*Options)) *server {
	t.Helper()
	o := Options{Dir: filepath.Join(t.TempDir(), "registry"), Max: 10 << 20, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&o)
	}
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(r.Handler(func(q *http.Request) (Client, error) {
		switch as := q.Header.Get("As"); as {
		case "":
			return Client{}, errors.New("who are you?")
		case "admin":
			return Client{Admin: true}, nil
		default:
			return Client{Domain: as}, nil
		}
	}))
	t.Cleanup(s.Close)
	return &server{r, t, o.Dir, s.URL}
}

// ask sends a request and returns the status, the header and the body of the answer.
func (s *server) ask(as, method, path string, body []byte, header ...string) (int, http.Header, string) {
	s.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = s.url + path
	}
	q, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if as != "" {
		q.Header.Set("As", as)
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a.StatusCode, a.Header, string(text)
}

func (s *server) want(status int, as, method, path string, body []byte, header ...string) (http.Header, string) {
	s.t.Helper()
	got, h, text := s.ask(as, method, path, body, header...)
	if got != status {
		s.t.Fatalf("%s %s by %q: %d %s, want %d", method, path, as, got, text, status)
	}
	return h, text
}

// blob pushes a blob at once.
func (s *server) blob(text string) bundle.Digest {
	s.t.Helper()
	d := bundle.DigestOf([]byte(text))
	s.want(http.StatusCreated, "admin", http.MethodPost, "/v2/web/blobs/uploads/?digest="+string(d), []byte(text))
	return d
}

// service pushes a version of web, and returns the digest of its manifest and of its layer.
func (s *server) service(tag, layer string) (manifest, blob bundle.Digest) {
	s.t.Helper()
	config := s.blob("{}")
	blob = s.blob(layer)
	m := bundle.Manifest{Config: config, ConfigSize: 2, Layer: bundle.Layer{MediaType: bundle.LayerZstd, Digest: blob, Size: int64(len(layer)), Content: bundle.DigestOf([]byte("tar of " + layer))}}
	text, err := m.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	s.want(http.StatusCreated, "admin", http.MethodPut, "/v2/web/manifests/"+tag, text)
	return bundle.DigestOf(text), blob
}

// The distribution API as a client of OCI uses it: oras pushes and pulls an artifact.
func TestOras(t *testing.T) {
	s := serve(t)
	ctx := context.Background()
	repository, err := remote.NewRepository(strings.TrimPrefix(s.url, "http://") + "/web")
	if err != nil {
		t.Fatal(err)
	}
	repository.PlainHTTP = true
	repository.Client = asAdmin{}
	store := memory.New()
	layer, err := oras.PushBytes(ctx, store, bundle.LayerGzip, bytes.Repeat([]byte("layer"), 100_000))
	if err != nil {
		t.Fatal(err)
	}
	m, err := oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, bundle.ArtifactType, oras.PackManifestOptions{Layers: []oci.Descriptor{layer}})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Tag(ctx, m, "1.4.0"); err != nil {
		t.Fatal(err)
	}
	if _, err := oras.Copy(ctx, store, "1.4.0", repository, "1.4.0", oras.DefaultCopyOptions); err != nil {
		t.Fatal("push: ", err)
	}
	into := memory.New()
	got, err := oras.Copy(ctx, repository, "1.4.0", into, "1.4.0", oras.DefaultCopyOptions)
	if err != nil {
		t.Fatal("pull: ", err)
	}
	if got.Digest != m.Digest {
		t.Errorf("pulled %s, pushed %s", got.Digest, m.Digest)
	}
	var tags []string
	if err := repository.Tags(ctx, "", func(some []string) error { tags = append(tags, some...); return nil }); err != nil || !slices.Equal(tags, []string{"1.4.0"}) {
		t.Errorf("tags %v, %v", tags, err)
	}
}

type asAdmin struct{}

func (asAdmin) Do(q *http.Request) (*http.Response, error) {
	q.Header.Set("As", "admin")
	return http.DefaultClient.Do(q)
}

// An upload goes on where it broke off, also in another run of the hub.
func TestUploadIsResumed(t *testing.T) {
	s := serve(t)
	whole := bytes.Repeat([]byte("0123456789"), 100_000)
	d := bundle.DigestOf(whole)
	h, _ := s.want(http.StatusAccepted, "admin", http.MethodPost, "/v2/web/blobs/uploads/", nil)
	at := h.Get("Location")
	h, _ = s.want(http.StatusAccepted, "admin", http.MethodPatch, at, whole[:300_000], "Content-Range", "0-299999")
	if h.Get("Range") != "0-299999" {
		t.Errorf("range %q", h.Get("Range"))
	}
	s.want(http.StatusRequestedRangeNotSatisfiable, "admin", http.MethodPatch, at, whole[:10], "Content-Range", "0-9")

	again := serve(t, func(o *Options) { o.Dir = s.dir })
	h, _ = again.want(http.StatusNoContent, "admin", http.MethodGet, at, nil)
	if h.Get("Range") != "0-299999" || again.Size() != 300_000 {
		t.Errorf("in the next run: range %q, %d bytes", h.Get("Range"), again.Size())
	}
	again.want(http.StatusAccepted, "admin", http.MethodPatch, at, whole[300_000:900_000])
	again.want(http.StatusCreated, "admin", http.MethodPut, at+"?digest="+string(d), whole[900_000:])
	again.want(http.StatusNotFound, "admin", http.MethodGet, at, nil)
	_, text := again.want(http.StatusPartialContent, "admin", http.MethodGet, "/v2/web/blobs/"+string(d), nil, "Range", "bytes=999990-")
	if text != "0123456789" || again.Size() != 1_000_000 {
		t.Errorf("the end is %q, %d bytes", text, again.Size())
	}
}

// A wrong digest leaves nothing, neither bytes nor an upload.
func TestWrongDigest(t *testing.T) {
	s := serve(t)
	s.want(http.StatusBadRequest, "admin", http.MethodPost, "/v2/web/blobs/uploads/?digest="+string(bundle.DigestOf([]byte("x"))), []byte("y"))
	s.want(http.StatusBadRequest, "admin", http.MethodPost, "/v2/web/blobs/uploads/?digest=sha256:../../x", []byte("y"))
	h, _ := s.want(http.StatusAccepted, "admin", http.MethodPost, "/v2/web/blobs/uploads/", nil)
	s.want(http.StatusAccepted, "admin", http.MethodPatch, h.Get("Location"), []byte("some"))
	s.want(http.StatusNoContent, "admin", http.MethodDelete, h.Get("Location"), nil)
	if left, err := os.ReadDir(filepath.Join(s.dir, uploadsDir)); err != nil || len(left) != 0 || s.Size() != 0 {
		t.Errorf("left are %v (%v), %d bytes", left, err, s.Size())
	}
}

// A version never changes its content.
func TestTagIsForever(t *testing.T) {
	s := serve(t)
	first, _ := s.service("1.4.0", "first")
	s.service("1.4.0", "first")
	config := s.blob("{}")
	m := bundle.Manifest{Config: config, ConfigSize: 2, Layer: bundle.Layer{MediaType: bundle.LayerZstd, Digest: s.blob("second"), Size: 6, Content: config}}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.want(http.StatusConflict, "admin", http.MethodPut, "/v2/web/manifests/1.4.0", text)
	s.want(http.StatusNotFound, "admin", http.MethodPut, "/v2/web/manifests/1.5.0", bytes.ReplaceAll(text, []byte(string(config)), []byte(string(bundle.DigestOf([]byte("absent"))))))
	again := serve(t, func(o *Options) { o.Dir = s.dir })
	all, top, err := again.Resolve("web", "1.4.0")
	if err != nil || top != first || len(all) != 1 || all[0].Digest != first || all[0].Manifest.Layer.Size != 5 {
		t.Errorf("in the next run: %+v of %s, %v", all, top, err)
	}
	if _, _, err := again.Resolve("web", "9"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if v := again.Versions("web"); len(v) != 1 || v[0].Tag != "1.4.0" || v[0].Pushed.IsZero() {
		t.Errorf("versions %+v", v)
	}
}

// Nobody but an admin writes, a domain reads what it may, and others nothing.
func TestPermits(t *testing.T) {
	s := serve(t)
	mine, layer := s.service("1.0.0", "mine")
	other, otherLayer := s.service("2.0.0", "other")
	s.Permit("kitchen", []bundle.Digest{mine, layer})
	read := func(as string, want int, path string) {
		t.Helper()
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if got, _, text := s.ask(as, method, path, nil); got != want {
				t.Errorf("%s %s by %q: %d %s, want %d", method, path, as, got, text, want)
			}
		}
	}
	for _, path := range []string{"/v2/", "/v2/web/manifests/1.0.0", "/v2/web/blobs/" + string(layer), "/v2/web/tags/list", "/v2/_catalog"} {
		read("", http.StatusUnauthorized, path)
	}
	for path, want := range map[string]int{
		"/v2/web/manifests/" + string(mine): 200, "/v2/web/manifests/1.0.0": 200, "/v2/web/blobs/" + string(layer): 200,
		"/v2/web/manifests/" + string(other): 404, "/v2/web/manifests/2.0.0": 404, "/v2/web/blobs/" + string(otherLayer): 404,
		"/v2/web/tags/list": 403,
	} {
		read("kitchen", want, path)
	}
	read("cellar", 404, "/v2/web/manifests/"+string(mine))
	read("cellar", 404, "/v2/web/blobs/"+string(layer))
	for _, q := range [][2]string{{http.MethodPost, "/v2/web/blobs/uploads/"}, {http.MethodPut, "/v2/web/manifests/3.0.0"}, {http.MethodDelete, "/v2/web/manifests/1.0.0"}} {
		if got, _, _ := s.ask("kitchen", q[0], q[1], nil); got != http.StatusForbidden {
			t.Errorf("%s %s by a domain: %d", q[0], q[1], got)
		}
	}
	if got, _, _ := s.ask("admin", http.MethodGet, "/v2/", nil, "Origin", "https://evil.example"); got != http.StatusForbidden {
		t.Errorf("with an Origin: %d", got)
	}
}

// Four domains pull at a time; the next one is told to come again.
func TestPullsAreBounded(t *testing.T) {
	s := serve(t)
	_, layer := s.service("1.0.0", "layer")
	s.Permit("kitchen", []bundle.Digest{layer})
	var ends []func()
	for range maxPulls {
		end, ok := s.pull()
		if !ok {
			t.Fatal("refused")
		}
		ends = append(ends, end)
	}
	h, _ := s.want(http.StatusServiceUnavailable, "kitchen", http.MethodGet, "/v2/web/blobs/"+string(layer), nil)
	if h.Get("Retry-After") == "" {
		t.Error("it is not told when to come again")
	}
	s.want(http.StatusOK, "admin", http.MethodGet, "/v2/web/blobs/"+string(layer), nil)
	ends[0]()
	s.want(http.StatusOK, "kitchen", http.MethodGet, "/v2/web/blobs/"+string(layer), nil)
}

// What is refused is said in the words of the distribution specification.
func TestBadRequests(t *testing.T) {
	s := serve(t)
	for _, q := range []struct {
		method, path string
		body         string
		status       int
		code         string
	}{
		{http.MethodGet, "/v2/Web/manifests/1", "", 400, "NAME_INVALID"},
		{http.MethodGet, "/v2/a/b/manifests/1", "", 404, "UNSUPPORTED"},
		{http.MethodGet, "/v2/web/manifests/1", "", 404, "MANIFEST_UNKNOWN"},
		{http.MethodGet, "/v2/web/blobs/sha256:abc", "", 400, "DIGEST_INVALID"},
		{http.MethodGet, "/v2/web/blobs/" + string(bundle.DigestOf(nil)), "", 404, "BLOB_UNKNOWN"},
		{http.MethodPut, "/v2/web/manifests/1", "{", 400, "MANIFEST_INVALID"},
		{http.MethodPut, "/v2/web/manifests/1", `{"schemaVersion":2,"mediaType":"text/plain"}`, 400, "MANIFEST_INVALID"},
		{http.MethodPut, "/v2/web/manifests/..", "", 0, ""},
		{http.MethodPut, "/v2/web/manifests/a+b", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`, 400, "TAG_INVALID"},
		{http.MethodPut, "/v2/web/manifests/" + string(bundle.DigestOf(nil)), `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`, 400, "DIGEST_INVALID"},
		{http.MethodPatch, "/v2/web/blobs/uploads/nosuch", "x", 404, "BLOB_UPLOAD_UNKNOWN"},
		{http.MethodGet, "/v2/web/tags/list", "", 404, "NAME_UNKNOWN"},
	} {
		status, _, text := s.ask("admin", q.method, q.path, []byte(q.body))
		if q.status == 0 {
			if status < 300 {
				t.Errorf("%s %s: %d", q.method, q.path, status)
			}
			continue
		}
		var answer struct {
			Errors []struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Errors) != 1 || answer.Errors[0].Code != q.code || answer.Errors[0].Message == "" || status != q.status {
			t.Errorf("%s %s: %d %s, want %d %s", q.method, q.path, status, text, q.status, q.code)
		}
	}
}

// A registry that is full says so; what it has stays, and it takes more once there is space.
func TestFull(t *testing.T) {
	s := serve(t, func(o *Options) { o.Max = 1 << 20 })
	s.service("1.0.0", strings.Repeat("a", 500_000))
	h, _ := s.want(http.StatusAccepted, "admin", http.MethodPost, "/v2/web/blobs/uploads/", nil)
	at := h.Get("Location")
	if status, _, text := s.ask("admin", http.MethodPatch, at, make([]byte, 1<<20)); status != http.StatusInsufficientStorage || !strings.Contains(text, "registry.max") {
		t.Errorf("%d %s", status, text)
	}
	s.want(http.StatusNoContent, "admin", http.MethodDelete, at, nil)
	s.service("2.0.0", strings.Repeat("b", 500_000))
	if err := s.Retain(nil, time.Now().Add(2*unusedTime)); err != nil {
		t.Fatal(err)
	}
	if s.Size() != 0 || len(s.Versions("web")) != 0 {
		t.Errorf("%d bytes, %v", s.Size(), s.Versions("web"))
	}
	s.service("3.0.0", strings.Repeat("c", 1_000_000))

	reserved := serve(t, func(o *Options) { o.Reserve = 1 << 60 })
	if status, _, text := reserved.ask("admin", http.MethodPost, "/v2/web/blobs/uploads/?digest="+string(bundle.DigestOf([]byte("x"))), []byte("x")); status != http.StatusInsufficientStorage || !strings.Contains(text, "kept free") {
		t.Errorf("without space on the disk: %d %s", status, text)
	}
}

// What is retained stays with all that it needs; the rest goes once it is old.
func TestRetain(t *testing.T) {
	s := serve(t)
	keep, keptLayer := s.service("1.0.0", "kept")
	_, goneLayer := s.service("2.0.0", "gone")
	s.blob("pushed without a manifest")
	retain := func(at time.Time) {
		t.Helper()
		if err := s.Retain(map[string][]bundle.Digest{"web": {keep}}, at); err != nil {
			t.Fatal(err)
		}
	}
	retain(time.Now())
	if len(s.Versions("web")) != 2 {
		t.Error("a version that was just pushed is gone")
	}
	retain(time.Now().Add(2 * unusedTime))
	if v := s.Versions("web"); len(v) != 1 || v[0].Manifest != keep {
		t.Errorf("versions %+v", v)
	}
	s.want(200, "admin", http.MethodGet, "/v2/web/blobs/"+string(keptLayer), nil)
	s.want(404, "admin", http.MethodGet, "/v2/web/blobs/"+string(goneLayer), nil)
	if left, err := os.ReadDir(s.blobDir()); err != nil || len(left) != 3 {
		t.Errorf("%d blobs are left, want manifest, config and layer (%v)", len(left), err)
	}
	retain(time.Now().Add(-10 * unusedTime)) // a clock that jumped back removes nothing
	if len(s.Versions("web")) != 1 {
		t.Error("a version that is retained is gone")
	}
}

// A blob that the disk damaged is named, and can be pushed again.
func TestDamagedManifest(t *testing.T) {
	s := serve(t)
	d, _ := s.service("1.0.0", "layer")
	if err := os.WriteFile(s.blobFile(d), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Resolve("web", "1.0.0"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
	s.service("1.0.0", "layer")
	if _, _, err := s.Resolve("web", "1.0.0"); err != nil {
		t.Error(err)
	}
}

// Uploads end after a day, and there are not too many.
func TestUploadsEnd(t *testing.T) {
	s := serve(t)
	for range maxUploads {
		s.want(http.StatusAccepted, "admin", http.MethodPost, "/v2/web/blobs/uploads/", nil)
	}
	s.want(http.StatusInsufficientStorage, "admin", http.MethodPost, "/v2/web/blobs/uploads/", nil)
	if _, err := s.begin(time.Now().Add(uploadTime + time.Minute)); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(s.dir, uploadsDir)); err != nil || len(left) != 1 {
		t.Errorf("%d uploads are left (%v)", len(left), err)
	}
}

func TestTag(t *testing.T) {
	if got := bundle.Tag("0.0.0+abc"); got != "0.0.0_abc" || !tagPattern.MatchString(got) {
		t.Error(got)
	}
}
