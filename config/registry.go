package config

// DefaultRegistryMax is how much the registry stores unless the file says otherwise, in
// bytes.
const DefaultRegistryMax = 2_000_000_000

// Registry is [registry] of a dominion.toml.
type Registry struct {
	// Max is how many bytes of bundles are stored.
	Max int64
}

// registrySection returns [registry].
func registrySection() section[*Dominion] {
	return section[*Dominion]{
		path: "registry", asWhole: true, doc: "the bundles of [deployed services](../how-to/deploy.md), at HTTPS",
		settings: []setting[*Dominion]{{
			key: "max", of: func(d *Dominion) any { return &d.Registry.Max }, def: int64(DefaultRegistryMax),
			usual: "`\"2GB\"`",
			check: func(t *table, key string, v any) {
				if *v.(*int64) < 1<<20 {
					t.fault(key, `write a size, as "2GB"`, "is less than 1 MB")
				}
			},
			doc: "what bundles may take on the disk; what is pushed beyond it is refused",
		}},
	}
}
