package hub

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/hub/registry"
	"github.com/jmbarzee/dominion/topics"
)

// registryBundles is a registry as the loop uses it.
type registryBundles struct{ *registry.Registry }

// formats are those of a layer, by its media type.
var formats = map[string]string{bundle.LayerZstd: topics.FormatZstd, bundle.LayerGzip: topics.FormatGzip}

// Resolve returns the bundle of a version.
func (r registryBundles) Resolve(service, version string) (topics.Bundle, error) {
	variants, digest, err := r.Registry.Resolve(service, bundle.Tag(version))
	if err != nil {
		return topics.Bundle{}, err
	}
	if len(variants) > topics.MaxVariants {
		return topics.Bundle{}, fmt.Errorf("%d platforms are more than %d", len(variants), topics.MaxVariants)
	}
	b := topics.Bundle{Version: version, Digest: string(digest)}
	for _, v := range variants {
		one := topics.BundleVariant{
			Manifest: string(v.Digest), Layer: string(v.Manifest.Layer.Digest), Format: formats[v.Manifest.Layer.MediaType],
			Content: string(v.Manifest.Layer.Content), Size: v.Manifest.Layer.Size,
		}
		if v.Platform != (bundle.Platform{}) {
			one.Platform = v.Platform.String()
		}
		b.Variants = append(b.Variants, one)
	}
	return b, nil
}

// Permit sets what a domain may read.
func (r registryBundles) Permit(domain string, digests []string) {
	r.Registry.Permit(domain, parseDigests(digests))
}

// Retain removes the versions of services that are not named.
func (r registryBundles) Retain(digests map[string][]string, now time.Time) error {
	keep := make(map[string][]bundle.Digest, len(digests))
	for service, all := range digests {
		keep[service] = parseDigests(all)
	}
	return r.Registry.Retain(keep, now)
}

// parseDigests returns the digests among texts.
func parseDigests(texts []string) (all []bundle.Digest) {
	for _, text := range texts {
		if d, err := bundle.ParseDigest(text); err == nil {
			all = append(all, d)
		}
	}
	return all
}
