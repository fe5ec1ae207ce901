package config

// domainVariables begins the names of the variables that override a domain.toml.
const domainVariables = "DOMAIN_CFG"

// sibling is the other kind of configuration file: domain.toml where dominion.toml is
// read, and the reverse.
type sibling struct {
	file string
	// keys are by table and key.
	keys map[[2]string]bool
}

// siblingFile returns the name of the other kind of configuration file if that has such
// a key in such a table, else "": the two were mixed up. A service.toml has no sibling.
func (l *loader) siblingFile(u unknownKey) string {
	if l.sibling.keys == nil {
		l.sibling = siblingOf(l.prefix)
	}
	if l.sibling.keys[[2]string{u.in.path, u.key}] {
		return l.sibling.file
	}
	return ""
}

func siblingOf(prefix string) sibling {
	switch prefix {
	case dominionVariables:
		return sibling{"domain.toml", keysOf(domainSections())}
	case domainVariables:
		return sibling{"dominion.toml", keysOf(dominionSections())}
	}
	return sibling{}
}
