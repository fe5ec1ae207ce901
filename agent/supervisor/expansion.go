package supervisor

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/agent/makefile"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// cannotRestart returns why a running service could not be started again with a
// spec, as a secret is missing, this domain does not accept it or has another version on disk; "" if it
// could. A file that cannot be read is reported at the start.
func (s *Supervisor) cannotRestart(name string, spec topics.Spec) string {
	if _, err := s.openSecrets(name, spec.Environment, spec.Secrets); err != nil {
		return err.Error()
	}
	if s.o.Accept != config.AcceptLocal && len(spec.Versions) == 0 {
		return ""
	}
	file, err := s.manifest(name, spec)
	if err != nil {
		return ""
	}
	if why := s.undeclaredVariables(file, name, spec.Environment, nil); why != "" {
		return why
	}
	_, version, _ := s.directory(name, spec)
	return outOfRange(name, cmp.Or(version, s.version(name, file)), spec.Versions)
}

// undeclaredVariables returns an error text that names the variables which the
// dominion sets, itself or by an environment_file, although the service does not
// declare them; "" if there are none, or this domain accepts any.
func (s *Supervisor) undeclaredVariables(own config.Service, name string, ordered, fromFile map[string]string) string {
	if s.o.Accept != config.AcceptLocal {
		return ""
	}
	var refused []string
	for _, set := range []map[string]string{ordered, fromFile} {
		for k := range set {
			if !own.Declares(k) && !slices.Contains(refused, k) {
				refused = append(refused, k)
			}
		}
	}
	if len(refused) == 0 {
		return ""
	}
	slices.Sort(refused)
	const most = 5
	more := ""
	if n := len(refused) - most; n > 0 {
		refused, more = refused[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf(`environment: the dominion may not set %s%s here (accept = "local" in domain.toml): write variables = ["%s"] in %s`,
		strings.Join(refused, ", "), more, strings.Join(refused, `", "`), filepath.Join(s.o.ServicesDir, name, "service.toml"))
}

// checkMakeExpansion returns an error if one of the commands is make and would expand
// a value that holds a $, or if that cannot be determined. Make does not change
// values without one.
func (s *Supervisor) checkMakeExpansion(name, dir string, all map[string]string, commands ...[]string) error {
	var dollars []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if strings.Contains(all[k], "$") {
			dollars = append(dollars, k)
		}
	}
	if len(dollars) == 0 {
		return nil
	}
	for _, command := range commands {
		arguments, shell, runs := makeOf(command)
		if !runs {
			continue
		}
		if shell != "" {
			return fmt.Errorf("the value of %s holds a $, and whether make expands it cannot be determined: a shell runs make, %.80q: write command = [\"make\", …] in service.toml", dollars[0], shell)
		}
		uses, option := makefile.Uses{}, unusualOption(dir, arguments)
		if option == "" {
			files := serviceFiles{s, name, dir}
			first, err := foreign.Do(s.o.Files, dir, func() (string, error) { return firstMakefile(dir), nil })
			if err != nil {
				return err
			}
			uses = makefile.Read(files, first)
		}
		for _, k := range dollars {
			where, unclear := uses.Expands(k)
			switch {
			case option != "":
				return fmt.Errorf("the value of %s holds a $, and whether make expands it cannot be determined: %s is an option of make that is not understood here: leave it out", k, option)
			case unclear:
				return fmt.Errorf("the value of %s holds a $, and whether make expands it cannot be determined: %s: write what is read without make's variables, and \"$$%s\" in recipes", k, where, k)
			case where != "":
				return fmt.Errorf("the value of %s holds a $, which make would expand: %s names it as $(%s): write \"$$%s\" in the recipe", k, where, k, k)
			}
		}
	}
	return nil
}

// makeOf returns the arguments that a command gives to make, itself or by a program
// in front of it such as nice; or the text of a shell that names make.
func makeOf(command []string) (arguments []string, shell string, runs bool) {
	isMake := func(word string) bool { name := filepath.Base(word); return name == "make" || name == "gmake" }
	if i := slices.IndexFunc(command, isMake); i >= 0 {
		return command[i+1:], "", true
	}
	notWord := func(r rune) bool { return strings.ContainsRune(" \t\n;&|(){}`\"'", r) }
	for _, a := range command {
		if slices.ContainsFunc(strings.FieldsFunc(a, notWord), isMake) {
			return nil, a, true
		}
	}
	return nil, "", false
}

// harmlessOptions are options with which make reads no other file.
var harmlessOptions = []string{"--no-print-directory", "-s", "--silent", "-k", "-B"}

// unusualOption returns the first argument by which make might read something
// else than the Makefile in dir; "" if there is none.
func unusualOption(dir string, arguments []string) string {
	for i := 0; i < len(arguments); i++ {
		a := arguments[i]
		if a == "-C" && i+1 < len(arguments) && arguments[i+1] == dir {
			i++
			continue
		}
		if slices.Contains(harmlessOptions, a) {
			continue
		}
		if strings.HasPrefix(a, "-") || strings.Contains(a, "=") {
			return a
		}
	}
	return ""
}

// makefiles are the names under which make finds one, in its order.
var makefiles = []string{"GNUmakefile", "makefile", "Makefile"}

// firstMakefile returns the name of the Makefile that make takes; "" if there is
// none.
func firstMakefile(dir string) string {
	for _, name := range makefiles {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return name
		}
	}
	return ""
}

// serviceFiles are the files of a service's directory, as a Makefile includes
// them.
type serviceFiles struct {
	s         *Supervisor
	name, dir string
}

// maxMakefile is far above what people write, in bytes.
const maxMakefile = 256 << 10

func (f serviceFiles) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.dir, name)
}

func (f serviceFiles) Read(name string) (string, error) {
	own, err := f.s.users.of(f.name)
	if err != nil {
		return "", err
	}
	b, err := f.s.o.Files.Read(f.path(name), own.credential, maxMakefile)
	return string(b), err
}

func (f serviceFiles) Glob(pattern string) ([]string, error) {
	return foreign.Do(f.s.o.Files, f.dir, func() ([]string, error) { return filepath.Glob(f.path(pattern)) })
}
