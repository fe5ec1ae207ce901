package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/services"
)

// Every key that is read has a setting, and the reverse.
func TestEveryKeyHasASetting(t *testing.T) {
	l, root := open("testdata/full-dominion.toml", "", nil)
	if root == nil {
		t.Fatal(l.faults)
	}
	d := defaults()
	root.dominion(&d)
	want := keysOf(dominionSections())
	inner := innerOf(dominionSections())
	for _, k := range serviceSettings() {
		want[[2]string{"services.npbar", k.key}] = true
		if k.inner != nil {
			inner[k.key] = k.innerRows()
		}
	}
	sameKeys(t, l, want, inner, `^services$|^services\.(web|lightorchestrator)$`)

	l, root = open("testdata/full-domain.toml", "", nil)
	if root == nil {
		t.Fatal(l.faults)
	}
	root.domain(&Domain{})
	sameKeys(t, l, keysOf(domainSections()), innerOf(domainSections()), `^traits_from$`)

	l, root = open("testdata/full-service.toml", "", nil)
	if root == nil {
		t.Fatal(l.faults)
	}
	root.ownService(&Service{})
	file := []section[*Service]{{settings: serviceFileSettings()}}
	sameKeys(t, l, keysOf(file), innerOf(file), `^environment$`)
}

// innerOf returns the rows of settings that are tables, by the path of the setting.
func innerOf[C any](sections []section[*C]) map[string][]row {
	all := make(map[string][]row)
	for _, s := range sections {
		for _, k := range s.settings {
			if k.inner != nil {
				all[strings.TrimPrefix(s.path+"."+k.key, ".")] = k.innerRows()
			}
		}
	}
	return all
}

// outer is the path of the setting that a table is in.
var outer = regexp.MustCompile(`\[\d+\]|^services\.[a-z]+\.`)

func sameKeys(t *testing.T, l *loader, want map[[2]string]bool, inner map[string][]row, free string) {
	t.Helper()
	read := make(map[[2]string]bool)
	readInner := make(map[string]bool)
	for _, k := range l.requested {
		at := [2]string{k.table, k.key}
		read[at] = true
		if want[at] || regexp.MustCompile(free).MatchString(k.table) {
			continue
		}
		path := outer.ReplaceAllString(k.table, "") + "." + k.key
		if rest, is := strings.CutPrefix(path, "traits_from."); is {
			_, rest, _ = strings.Cut(rest, ".") // the name of a trait
			path = "traits_from." + rest
		}
		readInner[path] = true
	}
	for path, rows := range inner {
		for _, r := range rows {
			if p := path + "." + r.key; readInner[p] {
				delete(readInner, p)
			} else {
				t.Errorf("%s has a setting and is not read", p)
			}
		}
	}
	for path := range readInner {
		t.Errorf("%s is read and has no setting", path)
	}
	for at := range want {
		if !read[at] {
			t.Errorf("%s.%s has a setting and is not read", at[0], at[1])
		}
	}
}

// Every field of a configuration is the place of a setting, or a struct of such.
func TestEveryFieldHasASetting(t *testing.T) {
	var d Dominion
	everyField(t, reflect.ValueOf(&d).Elem(), places(dominionSections(), &d), "File", "ListenIsDefault", "ListenTLSIsDefault", "Services")
	var domain Domain
	everyField(t, reflect.ValueOf(&domain).Elem(), places(domainSections(), &domain), "File", "AcceptIsDefault")
	var own Service
	everyField(t, reflect.ValueOf(&own).Elem(), places([]section[*Service]{{settings: serviceFileSettings()}}, &own), "File")
	var service services.Definition
	settings := []section[*services.Definition]{{settings: serviceSettings()}}
	everyField(t, reflect.ValueOf(&service).Elem(), places(settings, &service), "Name")
}

// place is where a value is. A struct and its first field differ in kind.
type place struct {
	at   uintptr
	kind reflect.Kind
}

func places[C any](sections []section[*C], c *C) map[place]bool {
	all := make(map[place]bool)
	for _, s := range sections {
		for _, k := range s.settings {
			v := reflect.ValueOf(k.of(c))
			all[place{v.Pointer(), v.Elem().Kind()}] = true
		}
	}
	return all
}

func everyField(t *testing.T, v reflect.Value, places map[place]bool, except ...string) {
	t.Helper()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case slices.Contains(except, name), places[place{f.Addr().Pointer(), f.Kind()}]:
		case f.Kind() == reflect.Struct:
			everyField(t, f, places, except...)
		default:
			t.Errorf("%s.%s has no setting", v.Type().Name(), name)
		}
	}
}

// A start command carries what its setting says, and nothing else.
func TestInStartCommand(t *testing.T) {
	values := map[string]string{
		"priority": `"required"`, "dependencies": `["b"]`, "traits": `["x"]`, "version": `">=1.2"`, "replicas": "2",
		"scale": `{ max = 3, metric = "cpu", target = 0.5 }`, "domains": `["x"]`, "needs": "{ cpu = 0.5 }",
		"oneshot": "true", "exclusive": "true", "target": `"run"`, "port": "80", "environment_file": `"/x"`,
		"environment": `{ A = "b" }`, "restart": `{ delay = "3s" }`, "health": "{ notify = true }",
		"start_timeout": `"3s"`, "stop_timeout": `"3s"`, "update": `"manual"`, "bundle": `"1.2.0"`,
	}
	for _, k := range serviceSettings() {
		_, root := openText("", k.key+" = "+values[k.key], "", nil)
		root.l.atRunTime = k.key == "bundle"
		d := root.service("a", serviceSettings())
		if len(root.l.faults) > 0 || reflect.DeepEqual(d, services.Default("a")) {
			t.Errorf("%s = %s: %v, or the default", k.key, values[k.key], root.l.faults)
		}
		carried := !reflect.DeepEqual(d.Spec(nil), services.Default("a").Spec(nil))
		if carried != k.inStartCommand {
			t.Errorf("%s: in the start command: %v, its setting says %v", k.key, carried, k.inStartCommand)
		}
	}
}

// What the document says of a default that is a table is the default.
func TestTextsOfDefaults(t *testing.T) {
	for _, k := range serviceSettings() {
		text := strings.Trim(k.usual, "`")
		if text == k.usual || strings.Contains(text, "`") { // words
			continue
		}
		_, root := openText("", k.key+" = "+text, "", nil)
		d := root.service("a", serviceSettings())
		if len(root.l.faults) > 0 || !reflect.DeepEqual(d, services.Default("a")) {
			t.Errorf("%s = %s is not the default: %v", k.key, text, root.l.faults)
		}
	}
}

// What a reload takes over and what counts after a restart is each setting, once.
func TestEffects(t *testing.T) {
	effects(t, dominionSections())
	effects(t, domainSections())
}

func effects[C any](t *testing.T, sections []section[*C]) {
	t.Helper()
	for _, s := range sections {
		for _, k := range s.settings {
			var was, is C
			v := reflect.ValueOf(k.of(&is)).Elem()
			switch v.Kind() {
			case reflect.String:
				v.SetString("x")
			case reflect.Bool:
				v.SetBool(true)
			case reflect.Slice:
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			default:
				v.Set(reflect.ValueOf(1).Convert(v.Type()))
			}
			named := changedByRestart(sections, &was, &is)
			takeOver(sections, &was, &is)
			if taken := reflect.DeepEqual(was, is); taken != (k.effect == byReload) || taken == (len(named) > 0) {
				t.Errorf("%s.%s: taken over by a reload: %v, named as one of a restart: %q", s.path, k.key, taken, named)
			}
		}
	}
}

// Every key that can be written has its place in the reference.
func TestReference(t *testing.T) {
	doc, err := os.ReadFile("../docs/reference/config.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file, section string
		read          func(root *table)
	}{
		{"testdata/full-dominion.toml", "dominion.toml", func(root *table) { d := defaults(); root.dominion(&d) }},
		{"testdata/full-domain.toml", "domain.toml", func(root *table) { root.domain(&Domain{}) }},
	} {
		_, section, found := strings.Cut(string(doc), "\n## "+c.section+"\n")
		if !found {
			t.Fatalf("docs/reference/config.md has no section %s", c.section)
		}
		if c.section == "domain.toml" {
			section, _, _ = strings.Cut(section, "\n## ")
		}
		l, root := open(c.file, "", nil)
		if root == nil {
			t.Fatal(l.faults)
		}
		c.read(root)
		if len(l.requested) < 10 {
			t.Fatalf("%s: only %d keys were looked for", c.file, len(l.requested))
		}
		for _, k := range l.requested {
			if k.table == "services" || k.table == "traits_from" { // names of the user's choice
				continue
			}
			if !regexp.MustCompile("[`.[{, ]" + regexp.QuoteMeta(k.key) + "[`\\]}, =]").MatchString(section) {
				t.Errorf("docs/reference/config.md says nothing of %s.%s", k.table, k.key)
			}
		}
	}
}
