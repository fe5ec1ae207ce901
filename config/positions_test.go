package config

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestFindLines(t *testing.T) {
	const text = "\ufeff# [not.a.table]\n" + `name = "x" # = not a key
[broker]   # implicit before? no
listen = '''
[not.a.table]
key = "in a string"
''' # three lines
"quoted key" = 1
'literal "key"' = 2
"esc\u0041\"." = 3
dotted.inner . "x y" = 4
inline = { a = 1, b = { c = [1, 2] }, "d" = "}" }
list = [
  "one", # ]
  { k = "two" },

  [ "three",
    "four" ],
]
mul = """a \""" " "" """"
after = """"quoted"""""
date = 1979-05-27 07:32:00
empty = ""
emptyagain = ''
emptylines = """"""
last = "\\"

[[broker.users]]
name = "ada"
[broker.users.more]
x = 1
[[broker.users]]
name = "bob"
[broker.users.more]
x = 2

[services.web.health]
tcp = true
[services.web]
port = 1
[[ a . b ]]
[[ a . b ]]
[[ a.b.c ]]
x = 1
[empty]`
	if _, err := toml.Decode(text, new(map[string]any)); err != nil {
		t.Fatal(err)
	}
	got := findLines(text)
	for path, line := range map[string]int{
		"name": 2, "broker": 3, "broker.listen": 4, `broker."quoted key"`: 8, `broker."literal \"key\""`: 9,
		`broker."escA\"."`: 10, "broker.dotted": 11, "broker.dotted.inner": 11, `broker.dotted.inner."x y"`: 11,
		"broker.inline": 12, "broker.inline.a": 12, "broker.inline.b.c": 12, "broker.inline.b.c[1]": 12, "broker.inline.d": 12,
		"broker.list": 13, "broker.list[0]": 14, "broker.list[1]": 15, "broker.list[1].k": 15, "broker.list[2]": 17, "broker.list[2][1]": 18,
		"broker.mul": 20, "broker.after": 21, "broker.date": 22, "broker.empty": 23, "broker.emptyagain": 24, "broker.emptylines": 25, "broker.last": 26,
		"broker.users": 28, "broker.users[0]": 28, "broker.users[0].name": 29, "broker.users[0].more": 30, "broker.users[0].more.x": 31,
		"broker.users[1]": 32, "broker.users[1].name": 33, "broker.users[1].more.x": 35,
		"services": 37, "services.web": 39, "services.web.health": 37, "services.web.health.tcp": 38, "services.web.port": 40,
		"a": 41, "a.b[0]": 41, "a.b[1]": 42, "a.b[1].c[0]": 43, "a.b[1].c[0].x": 44, "empty": 45,
	} {
		if got[path] != line {
			t.Errorf("%s on line %d, want %d", path, got[path], line)
		}
	}
	for path := range got {
		if strings.Contains(path, "not") {
			t.Errorf("%s is not a valid path", path)
		}
	}
}

// allPaths lists the paths of a decoded table, to see that each has its line.
func allPaths(path string, v any) []string {
	var paths []string
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			p := join(path, k)
			paths = append(append(paths, p), allPaths(p, v[k])...)
		}
	case []any:
		for i, e := range v {
			p := element(path, i)
			paths = append(append(paths, p), allPaths(p, e)...)
		}
	case []map[string]any:
		for i, e := range v {
			p := element(path, i)
			paths = append(append(paths, p), allPaths(p, e)...)
		}
	}
	return paths
}

// Whatever toml accepts: the scan ends, and finds every key that toml found.
func FuzzFindLines(f *testing.F) {
	for _, text := range seeds(f) {
		f.Add(text)
	}
	f.Add("a = { b = { c = 1 }, d = [ { e = 1 }, { e = 2 } ] }\n[x.'y.z']\n\"\" = 1")
	f.Fuzz(func(t *testing.T, text string) {
		got := findLines(text)
		var values map[string]any
		if _, err := toml.Decode(text, &values); err != nil {
			return // it need only end
		}
		lines := strings.Count(text, "\n") + 1
		for _, p := range allPaths("", values) {
			if l := got[p]; l < 1 || l > lines {
				t.Errorf("%s on line %d of %d in %q", p, l, lines, text)
			}
		}
	})
}
