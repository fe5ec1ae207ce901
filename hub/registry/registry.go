// Package registry is the hub's OCI registry: an image layout on disk, and the
// distribution API at /v2/ for it.
//
// A repository is a service, a tag a version; a tag never changes its digest. What is
// stored is kept until Retain is called without it. It owns data_dir/registry. It does I/O of its
// own, may be used by several goroutines, and knows neither the hub's loop nor MQTT.
// Only hub imports it.
//
// # Files
//
//	blobs.go     blobs: storing, opening, space
//	handler.go   the distribution API: paths, errors
//	manifests.go manifests and tags by HTTP
//	permits.go   who may read and write what
//	registry.go  the image layout, versions, what is retained
//	uploads.go   uploads by HTTP: resumable, ended after a day
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	oci "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// Options are those of a registry.
type Options struct {
	// Dir is where the image layout is.
	Dir string
	// Max bounds what is stored, unfinished uploads included, in bytes.
	Max int64
	// Reserve is how much of the disk is left to others, in bytes.
	Reserve int64
	Log     *slog.Logger
}

// Registry is an image layout. Make it with Open.
type Registry struct {
	o Options

	mu sync.Mutex
	// tags have the digest of each version, by repository and tag.
	tags map[string]map[string]tagged
	// size is what blobs and uploads take, in bytes.
	size    int64
	uploads map[string]*upload
	permits map[string]map[bundle.Digest]bool
	// pulls is how many domains pull a blob now.
	pulls int
}

// tagged is what a tag points at.
type tagged struct {
	MediaType string
	Digest    bundle.Digest
	Size      int64
	Pushed    time.Time
}

// Version is one of a service.
type Version struct {
	Tag      string
	Manifest bundle.Digest
	Pushed   time.Time
}

var (
	// ErrNotFound means that the registry does not have what was asked for.
	ErrNotFound = errors.New("not in the registry")
	// ErrFull means that there is no space for more.
	ErrFull = errors.New("the registry is full")
	// ErrTagged means that a version has another content already.
	ErrTagged = errors.New("this version has another content already")
)

// The names of an image layout.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	uploadsDir = "uploads"
)

// pushedAnnotation is when a version was pushed, RFC 3339.
const pushedAnnotation = "org.opencontainers.image.created"

// tagPattern is the one of the distribution specification.
var tagPattern = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// Open opens the layout in a directory, and makes it where there is none. Unfinished uploads
// of an earlier run go on.
func Open(o Options) (*Registry, error) {
	r := &Registry{o: o, tags: make(map[string]map[string]tagged), uploads: make(map[string]*upload), permits: make(map[string]map[bundle.Digest]bool)}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("cannot open the registry in %s: %w", o.Dir, err)
	}
	return r, nil
}

func (r *Registry) open() error {
	for _, dir := range []string{r.blobDir(), filepath.Join(r.o.Dir, uploadsDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	layout := filepath.Join(r.o.Dir, layoutFile)
	if _, err := os.Stat(layout); errors.Is(err, fs.ErrNotExist) {
		if err := atomicfile.Write(layout, []byte(`{"imageLayoutVersion":"`+oci.ImageLayoutVersion+`"}`+"\n"), 0o600); err != nil {
			return err
		}
	}
	if err := r.readIndex(); err != nil {
		return err
	}
	if err := r.measure(); err != nil {
		return err
	}
	return r.openUploads()
}

// readIndex reads index.json. One that a power cut broke has a copy (atomicfile).
func (r *Registry) readIndex() error {
	index, found, err := atomicfile.ReadJSON[oci.Index](filepath.Join(r.o.Dir, indexFile), r.o.Log)
	if err != nil || !found {
		return err
	}
	for _, m := range index.Manifests {
		repository, tag, _ := strings.Cut(m.Annotations[oci.AnnotationRefName], ":")
		d, err := bundle.ParseDigest(string(m.Digest))
		if err != nil || !topics.ValidName(repository) || !tagPattern.MatchString(tag) {
			r.o.Log.Warn("an entry of the registry is ignored", "entry", m.Annotations[oci.AnnotationRefName], "digest", string(m.Digest))
			continue
		}
		pushed, _ := time.Parse(time.RFC3339, m.Annotations[pushedAnnotation])
		r.set(repository, tag, tagged{m.MediaType, d, m.Size, pushed})
	}
	return nil
}

// set notes a version. The caller holds the mutex, or nobody else has the registry yet.
func (r *Registry) set(repository, tag string, to tagged) {
	if r.tags[repository] == nil {
		r.tags[repository] = make(map[string]tagged)
	}
	r.tags[repository][tag] = to
}

// writeIndex writes index.json. The caller holds the mutex.
func (r *Registry) writeIndex() error {
	index := oci.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageIndex, Manifests: []oci.Descriptor{}}
	for repository, tags := range r.tags {
		for tag, t := range tags {
			index.Manifests = append(index.Manifests, oci.Descriptor{
				MediaType: t.MediaType, Digest: digest.Digest(t.Digest), Size: t.Size,
				Annotations: map[string]string{oci.AnnotationRefName: repository + ":" + tag, pushedAnnotation: t.Pushed.UTC().Format(time.RFC3339)},
			})
		}
	}
	slices.SortFunc(index.Manifests, func(a, b oci.Descriptor) int {
		return strings.Compare(a.Annotations[oci.AnnotationRefName], b.Annotations[oci.AnnotationRefName])
	})
	return atomicfile.WriteJSON(filepath.Join(r.o.Dir, indexFile), index)
}

// Versions returns the versions of a service, the newest push first.
func (r *Registry) Versions(repository string) []Version {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Version
	for tag, t := range r.tags[repository] {
		all = append(all, Version{tag, t.Digest, t.Pushed})
	}
	slices.SortFunc(all, func(a, b Version) int {
		if c := b.Pushed.Compare(a.Pushed); c != 0 {
			return c
		}
		return strings.Compare(a.Tag, b.Tag)
	})
	return all
}

// Variant is a bundle for one platform.
type Variant struct {
	// Platform is the zero value where the bundle runs anywhere.
	Platform bundle.Platform
	// Digest is that of the manifest.
	Digest   bundle.Digest
	Manifest bundle.Manifest
}

// Resolve returns the bundles of a version, one for each platform, and the digest of
// what the tag points at. It returns ErrNotFound, or why this is no service.
func (r *Registry) Resolve(repository, tag string) ([]Variant, bundle.Digest, error) {
	r.mu.Lock()
	t, found := r.tags[repository][tag]
	r.mu.Unlock()
	if !found {
		return nil, "", fmt.Errorf("%s:%s: %w", repository, tag, ErrNotFound)
	}
	text, err := r.read(t.Digest)
	if err != nil {
		return nil, "", err
	}
	parts, isIndex, err := bundle.ParseIndex(text)
	if err != nil {
		return nil, "", fmt.Errorf("%s:%s: %w", repository, tag, err)
	}
	if !isIndex {
		parts = []bundle.Variant{{Manifest: t.Digest}}
	}
	var all []Variant
	for _, part := range parts {
		text, err := r.read(part.Manifest)
		if err != nil {
			return nil, "", err
		}
		m, err := bundle.ParseManifest(text)
		if err != nil {
			return nil, "", fmt.Errorf("%s:%s: %w", repository, tag, err)
		}
		all = append(all, Variant{part.Platform, part.Manifest, m})
	}
	return all, t.Digest, nil
}

// Config returns the config of a bundle.
func (r *Registry) Config(m bundle.Manifest) ([]byte, error) { return r.read(m.Config) }

// Retain removes the versions that keep does not have, by repository and digest of what the tag
// points at, and the blobs that no version needs. What was pushed within the last hour
// stays: its definition may be on its way.
func (r *Registry) Retain(keep map[string][]bundle.Digest, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for repository, tags := range r.tags {
		for tag, t := range tags {
			if age := now.Sub(t.Pushed); slices.Contains(keep[repository], t.Digest) || age >= 0 && age < unusedTime {
				continue
			}
			delete(tags, tag)
			changed = true
		}
		if len(tags) == 0 {
			delete(r.tags, repository)
		}
	}
	if changed {
		if err := r.writeIndex(); err != nil {
			return fmt.Errorf("cannot remove versions from the registry: %w", err)
		}
	}
	return r.removeUnused(now)
}

// unusedTime is how long a blob or version stays that nothing needs.
const unusedTime = time.Hour

// needed returns the blobs that versions need. The caller holds the mutex.
func (r *Registry) needed() (map[bundle.Digest]bool, error) {
	all := make(map[bundle.Digest]bool)
	for _, tags := range r.tags {
		for _, t := range tags {
			if err := r.addNeeded(t.Digest, all, 0); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// maxNesting bounds indexes of indexes.
const maxNesting = 4

// addNeeded adds a manifest and what it names.
func (r *Registry) addNeeded(d bundle.Digest, all map[bundle.Digest]bool, depth int) error {
	if all[d] || depth > maxNesting {
		return nil
	}
	all[d] = true
	text, err := r.read(d)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	below, manifests, err := references(text)
	if err != nil {
		return nil //nolint:nilerr // it was checked when it was pushed; what is broken now needs nothing
	}
	for _, b := range below {
		all[b] = true
	}
	for _, m := range manifests {
		if err := r.addNeeded(m, all, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// references returns the blobs and the manifests that a manifest or an index names.
func references(text []byte) (blobs, manifests []bundle.Digest, err error) {
	var m struct {
		Config    *oci.Descriptor  `json:"config"`
		Layers    []oci.Descriptor `json:"layers"`
		Manifests []oci.Descriptor `json:"manifests"`
		Subject   *oci.Descriptor  `json:"subject"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, nil, fmt.Errorf("cannot read a manifest: %w", err)
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, of := range []struct {
		descriptors []oci.Descriptor
		into        *[]bundle.Digest
	}{{m.Layers, &blobs}, {m.Manifests, &manifests}} {
		for _, one := range of.descriptors {
			d, err := bundle.ParseDigest(string(one.Digest))
			if err != nil {
				return nil, nil, err
			}
			*of.into = append(*of.into, d)
		}
	}
	return blobs, manifests, nil
}
