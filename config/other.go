package config

// domainVariables begins the names of the variables that override a domain.toml.
const domainVariables = "DOMAIN_CFG"

// others are the keys of the configuration file beside the one that is read:
// of domain.toml where that is dominion.toml, and the reverse.
type others struct {
	file string
	keys map[[2]string]bool // table and key
}

// otherFile returns the name of the configuration file beside this one if that
// has such a key in such a table, else "". Whoever wrote it here mixed the two
// up. A service.toml has no file beside it.
func (l *loader) otherFile(u unknownKey) string {
	if l.others.keys == nil {
		l.others = othersOf(l.prefix)
	}
	if l.others.keys[[2]string{u.in.path, u.key}] {
		return l.others.file
	}
	return ""
}

func othersOf(prefix string) others {
	switch prefix {
	case dominionVariables:
		return others{"domain.toml", keysOf(domainSections())}
	case domainVariables:
		return others{"dominion.toml", keysOf(dominionSections())}
	}
	return others{}
}
