package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// effect says when a changed value of a setting counts.
type effect int

const (
	byRestart effect = iota
	byReload
)

// setting is one key of a file that is read into what a P points to. It is the one place that says
// what the key is: reading, defaults, the report of what counts after a restart and
// the tables of the reference follow from it.
type setting[P any] struct {
	key string
	// of returns the place of the value in c. Its type is that of the key, see value.
	of func(c P) any
	// def is the default; nil: the zero value.
	def any
	// isPath is set for text that is the path of a file or folder.
	isPath bool
	// check reports what is wrong with a value that was read; v is what of returned.
	check func(t *table, key string, v any)
	// read replaces the reader of the type; it does what check does, too.
	read func(t *table, key string, c P)
	// also is a further value that counts as changed with the key; nil: none.
	also func(c P) any
	// effect is byReload for what a running program takes over.
	effect effect
	// inStartCommand is set for a key of a service that its start command carries.
	inStartCommand bool
	// header is how the document names what is a table, or an array of tables, with
	// keys of its own.
	header string
	// inner returns the keys of what is a table or an array of tables; nil: it is none.
	inner func() []row
	// usual stands in the document for a default that def does not tell.
	usual string
	// doc says what the key is for.
	doc string
}

// row is what the document says of a key within a setting, as "topics.filter".
type row struct{ key, usual, doc string }

// rowsOf returns the rows of settings; c holds their defaults.
func rowsOf[P any](settings []setting[P], c P) []row {
	var rows []row
	for _, k := range settings {
		rows = append(rows, row{k.key, k.defaultText(c), k.doc})
		for _, r := range k.innerRows() {
			rows = append(rows, row{k.key + "." + r.key, r.usual, r.doc})
		}
	}
	return rows
}

func (k setting[P]) innerRows() []row {
	if k.inner == nil {
		return nil
	}
	return k.inner()
}

// defaultText returns the default as a file has it; c holds the defaults.
func (k setting[P]) defaultText(c P) string {
	if k.usual != "" || k.header != "" {
		return k.usual
	}
	return asInFile(reflect.ValueOf(k.of(c)).Elem().Interface())
}

// asInFile writes a value as a file has it.
func asInFile(v any) string {
	switch v := v.(type) {
	case time.Duration:
		s := v.String() // without what is zero at its end: "1m", not "1m0s"
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
		return "`" + quote(s) + "`"
	case topics.Seconds:
		return asInFile(v.Duration())
	case string:
		return "`" + quote(v) + "`"
	}
	if reflect.TypeOf(v).Kind() == reflect.Slice {
		return "`[]`"
	}
	return fmt.Sprintf("`%v`", v)
}

// section is one table of a file.
type section[P any] struct {
	// path is that of the table; "": the top of the file.
	path     string
	settings []setting[P]
	// read reads a table whose keys are of the user's choice into what of returns; of
	// and effect are as those of a setting.
	read   func(t *table, c P)
	of     func(c P) any
	effect effect
	// judge reports what is wrong with values together, when they are all read.
	judge func(in tables, c P)
	// asWhole is set where a change of any key is reported as one of the section.
	asWhole bool
	// elsewhere is set where the document has a table of its own for the settings.
	elsewhere bool
	// doc stands beside the section's header in the document.
	doc string
}

// tables are the tables of a file that were opened, by path.
type tables map[string]*table

// open returns the table at a path below one that is open already.
func (in tables) open(path string) *table {
	if in[path] == nil {
		up, key := "", path
		if i := strings.LastIndexByte(path, '.'); i >= 0 {
			up, key = path[:i], path[i+1:]
		}
		in[path] = in[up].sub(key)
	}
	return in[path]
}

// setDefaults gives every setting its default.
func setDefaults[P any](sections []section[P], c P) {
	for _, s := range sections {
		for _, k := range s.settings {
			k.setDefault(c)
		}
	}
}

func (k setting[P]) setDefault(c P) {
	if k.def != nil {
		v := reflect.ValueOf(k.of(c)).Elem()
		v.Set(reflect.ValueOf(k.def).Convert(v.Type()))
	}
}

// readSections reads a file below its root into c, which holds the defaults.
func readSections[P any](root *table, sections []section[P], c P) {
	in := tables{"": root}
	for _, s := range sections {
		t := in.open(s.path)
		for _, k := range s.settings {
			k.value(t, c)
		}
		if s.read != nil {
			s.read(t, c)
		}
		if s.judge != nil {
			s.judge(in, c)
		}
	}
	for _, s := range sections {
		in[s.path].close()
	}
}

// readElement reads a table within a setting, such as an element of an array of tables,
// into c, which holds the defaults.
func readElement[P any](t *table, settings []setting[P], c P) {
	for _, k := range settings {
		k.value(t, c)
	}
}

// value reads the value of one setting, and checks it.
func (k setting[P]) value(t *table, c P) {
	if k.read != nil {
		k.read(t, k.key, c)
		return
	}
	v, ok := k.of(c), false
	switch to := v.(type) {
	case *string:
		if k.isPath {
			ok = t.file(k.key, to)
		} else {
			ok = t.text(k.key, to)
		}
	case *bool:
		ok = t.flag(k.key, to)
	case *int:
		ok = t.number(k.key, to)
	case *float64:
		ok = t.decimal(k.key, to)
	case *int64:
		ok = t.size(k.key, to)
	case *time.Duration:
		ok = t.duration(k.key, to)
	case *topics.Seconds:
		ok = t.duration(k.key, (*time.Duration)(to))
	case *[]string:
		ok = t.list(k.key, to)
	default:
		panic(fmt.Sprintf("%s: no reader for a %T", k.key, v)) // of whoever wrote the row
	}
	if ok && k.check != nil {
		k.check(t, k.key, v)
	}
}

// changedByRestart names the keys that differ and that a reload leaves as they were.
func changedByRestart[P any](sections []section[P], was, is P) (keys []string) {
	for _, s := range sections {
		for _, k := range s.settings {
			same := reflect.DeepEqual(k.of(was), k.of(is)) &&
				(k.also == nil || reflect.DeepEqual(k.also(was), k.also(is)))
			if same || k.effect == byReload {
				continue
			}
			if s.asWhole {
				keys = append(keys, s.path)
				break
			}
			name := k.key
			if s.path != "" {
				name = s.path + "." + k.key
			}
			keys = append(keys, name)
		}
		if s.of != nil && s.effect != byReload && !reflect.DeepEqual(s.of(was), s.of(is)) {
			keys = append(keys, s.path)
		}
	}
	return keys
}

// takeOver sets in c what a running program takes over of a file that was read anew.
func takeOver[P any](sections []section[P], c, reread P) {
	for _, s := range sections {
		for _, k := range s.settings {
			if k.effect == byReload {
				assign(k.of(c), k.of(reread))
			}
		}
		if s.of != nil && s.effect == byReload {
			assign(s.of(c), s.of(reread))
		}
	}
}

// assign sets the value that to points to.
func assign(to, from any) { reflect.ValueOf(to).Elem().Set(reflect.ValueOf(from).Elem()) }

// keysOf returns the keys of a file, by table and key: those that have settings, and
// the tables themselves.
func keysOf[P any](sections []section[P]) map[[2]string]bool {
	keys := make(map[[2]string]bool)
	for _, s := range sections {
		for _, k := range s.settings {
			keys[[2]string{s.path, k.key}] = true
		}
		if s.path != "" {
			up, key := "", s.path
			if i := strings.LastIndexByte(s.path, '.'); i >= 0 {
				up, key = s.path[:i], s.path[i+1:]
			}
			keys[[2]string{up, key}] = true
		}
	}
	return keys
}

// textCheck checks a text, also an empty one.
func textCheck(check func(string) problem) func(*table, string, any) {
	return func(t *table, key string, v any) { check(*v.(*string)).report(t, key) }
}

// optionalText checks a text that may be empty.
func optionalText(check func(string) problem) func(*table, string, any) {
	return func(t *table, key string, v any) {
		if s := *v.(*string); s != "" {
			check(s).report(t, key)
		}
	}
}

// eachText checks the elements of a list.
func eachText(check func(string) problem) func(*table, string, any) {
	return func(t *table, key string, v any) {
		for _, s := range *v.(*[]string) {
			check(s).report(t, key)
		}
	}
}
