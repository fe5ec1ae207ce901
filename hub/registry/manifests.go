package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	oci "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jmbarzee/dominion/bundle"
)

// reference returns the digest that a request means by a digest or a tag.
func (h handler) reference(q *http.Request) (bundle.Digest, error) {
	name, err := repository(q)
	if err != nil {
		return "", err
	}
	text := q.PathValue("reference")
	if d, err := bundle.ParseDigest(text); err == nil {
		return d, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t, found := h.tags[name][text]
	if !found {
		return "", &apiError{http.StatusNotFound, "MANIFEST_UNKNOWN", fmt.Sprintf("there is no version %.130q of %s", text, name)}
	}
	return t.Digest, nil
}

// getManifest serves a manifest or an index.
func (h handler) getManifest(w http.ResponseWriter, q *http.Request) error {
	unknown := &apiError{http.StatusNotFound, "MANIFEST_UNKNOWN", "there is no such manifest"}
	d, err := h.reference(q)
	if err != nil {
		return err
	}
	if !h.mayRead(clientOf(q), d) {
		return unknown
	}
	text, err := h.read(d)
	if errors.Is(err, ErrNotFound) {
		return unknown
	}
	if err != nil {
		return err
	}
	mediaType, err := mediaTypeOf(text)
	if err != nil {
		return unknown // a blob that is no manifest
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text) // who went away needs no answer
	return nil
}

// mediaTypeOf returns the media type of a manifest or an index.
func mediaTypeOf(text []byte) (string, error) {
	var m struct {
		MediaType     string `json:"mediaType"`
		SchemaVersion int    `json:"schemaVersion"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return "", fmt.Errorf("cannot read the manifest: %w", err)
	}
	if m.SchemaVersion != 2 || m.MediaType != oci.MediaTypeImageManifest && m.MediaType != oci.MediaTypeImageIndex {
		return "", fmt.Errorf("the media type is %.80q: want %s or %s", m.MediaType, oci.MediaTypeImageManifest, oci.MediaTypeImageIndex)
	}
	return m.MediaType, nil
}

// putManifest stores a manifest or an index whose parts are there, and tags it. A tag
// that has another digest is refused.
func (h handler) putManifest(w http.ResponseWriter, q *http.Request) error {
	name, err := repository(q)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(q.Body, bundle.MaxManifest+1))
	if err != nil {
		return fmt.Errorf("cannot read the manifest: %w", err)
	}
	invalid := func(err error) error {
		return &apiError{http.StatusBadRequest, "MANIFEST_INVALID", err.Error()}
	}
	if len(text) > bundle.MaxManifest {
		return invalid(fmt.Errorf("a manifest may have %d bytes", bundle.MaxManifest))
	}
	mediaType, err := mediaTypeOf(text)
	if err != nil {
		return invalid(err)
	}
	blobs, manifests, err := references(text)
	if err != nil {
		return invalid(err)
	}
	for _, d := range slices.Concat(blobs, manifests) {
		if _, there := h.has(d); !there {
			return &apiError{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", fmt.Sprintf("%s is not in the registry: push it first", d)}
		}
	}
	d := bundle.DigestOf(text)
	reference := q.PathValue("reference")
	if want, err := bundle.ParseDigest(reference); err == nil {
		if want != d {
			return fmt.Errorf("%w: the manifest has the digest %s, not %s", errDigest, d, want)
		}
		reference = ""
	} else if !tagPattern.MatchString(reference) {
		return &apiError{http.StatusBadRequest, "TAG_INVALID", fmt.Sprintf("%.130q is not a tag: use letters, digits, . _ and -, 128 characters at most", reference)}
	}
	if err := h.put(text); err != nil {
		return err
	}
	if reference != "" {
		if err := h.tag(name, reference, tagged{mediaType, d, int64(len(text)), time.Now()}); err != nil {
			return err
		}
	}
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
	return nil
}

// maxVersions bounds the versions of a repository, and the repositories.
const (
	maxVersions     = 1000
	maxRepositories = 1000
)

// tag notes a version: ErrTagged where it has another digest.
func (r *Registry) tag(repository, tag string, to tagged) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, there := r.tags[repository][tag]; there {
		if old.Digest != to.Digest {
			return fmt.Errorf("%w: %s:%s is %s; choose another version", ErrTagged, repository, tag, old.Digest)
		}
		return nil
	}
	if len(r.tags[repository]) >= maxVersions || r.tags[repository] == nil && len(r.tags) >= maxRepositories {
		return fmt.Errorf("%w: it has %d versions of a service and %d services at most", ErrFull, maxVersions, maxRepositories)
	}
	r.set(repository, tag, to)
	if err := r.writeIndex(); err != nil {
		delete(r.tags[repository], tag)
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return nil
}

// getTags lists the versions of a service.
func (h handler) getTags(w http.ResponseWriter, q *http.Request) error {
	name, err := repository(q)
	if err != nil {
		return err
	}
	if !clientOf(q).Admin {
		return &apiError{http.StatusForbidden, "DENIED", errUnknownClient.Error()}
	}
	h.mu.Lock()
	tags := slices.Sorted(maps.Keys(h.tags[name]))
	h.mu.Unlock()
	if tags == nil {
		return &apiError{http.StatusNotFound, "NAME_UNKNOWN", "nothing of " + name + " was pushed"}
	}
	if last := q.URL.Query().Get("last"); last != "" {
		at, _ := slices.BinarySearch(tags, last+"\x00")
		tags = tags[at:]
	}
	if text := q.URL.Query().Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return &apiError{http.StatusBadRequest, "UNSUPPORTED", fmt.Sprintf("n is %.20q: want a number", text)}
		}
		if n < len(tags) {
			tags = tags[:n]
			if n > 0 {
				w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?n=%d&last=%s>; rel="next"`, name, n, tags[n-1]))
			}
		}
	}
	text, err := json.Marshal(struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, tags})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // who went away needs no answer
	return nil
}
