// Package topicstest makes payloads for tests: filled ones, and ones of which a
// single text holds something hostile. It goes by the types of package topics
// and the tags of their fields, so that a field that is added is covered. Tests
// alone import it.
package topicstest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Attacks are what a string that make or a shell interprets would betray itself
// by: each of them makes the file, unless the last two are merely refused.
func Attacks(file string) []string {
	return []string{
		"$(shell touch " + file + ")",
		"`touch " + file + "`",
		";touch " + file,
		"x\ntouch " + file,
		"x\x00touch " + file,
	}
}

// Variant is a payload of which one text was replaced.
type Variant struct {
	Field   string // by its path, "services.web.environment{}" for a key of an object
	Type    string // the name of its topics.TextType
	Payload []byte
}

// Variants returns a filled payload of the type of sample for each text in it,
// with that text replaced.
func Variants(sample any, text string) []Variant {
	var all []Variant
	whole := Filled(reflect.TypeOf(sample))
	walk(whole, "", "text", func(field, textType string, set func(string)) {
		set(text)
		all = append(all, Variant{field, textType, topics.Encode(whole.Interface())})
	})
	return all
}

// Filled returns a settable value of a payload's type in which nothing is
// empty, each text being the example of its type.
func Filled(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	fill(v, "", "text")
	return v
}

// fill sets every field of v that can be set, by the types of its tags.
func fill(v reflect.Value, key, text string) {
	switch v.Interface().(type) {
	case topics.Time:
		v.Set(reflect.ValueOf(topics.At(time.Date(2026, time.January, 2, 15, 4, 5, 0, time.UTC))))
		return
	case topics.Seconds:
		v.SetInt(int64(time.Second))
		return
	case json.RawMessage:
		v.SetBytes([]byte("{}"))
		return
	case []byte:
		v.SetBytes([]byte{1})
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(example(text))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), key, text)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), key, text)
	case reflect.Map:
		e := reflect.New(v.Type().Elem()).Elem()
		fill(e, key, text)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf(example(key)), e)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			fill(v.Field(i), f.Tag.Get("key"), f.Tag.Get("type"))
		}
	default:
		panic(fmt.Sprintf("topicstest: %v is of no kind that payloads have", v.Type()))
	}
}

func example(textType string) string {
	for _, t := range topics.TextTypes() {
		if t.Name == textType {
			return t.Example
		}
	}
	return "no-such-type"
}

// walk calls visit for each text of a filled value, with what replaces it; the
// old one is back afterwards.
func walk(v reflect.Value, field, text string, visit func(field, textType string, set func(string))) {
	switch {
	case v.Type() == reflect.TypeFor[topics.Time]() || v.Type() == reflect.TypeFor[json.RawMessage]():
		return
	case v.Kind() == reflect.String:
		was := v.String()
		visit(field, text, v.SetString)
		v.SetString(was)
	case v.Kind() == reflect.Pointer:
		walk(v.Elem(), field, text, visit)
	case v.Kind() == reflect.Slice:
		walk(v.Index(0), field, text, visit)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			name := strings.TrimPrefix(field+"."+key, ".")
			if v.Field(i).Kind() == reflect.Map {
				walkMap(v.Field(i), name, f.Tag, visit)
				continue
			}
			walk(v.Field(i), name, f.Tag.Get("type"), visit)
		}
	}
}

// walkMap visits the texts of a map: its key and its value.
func walkMap(v reflect.Value, field string, tag reflect.StructTag, visit func(field, textType string, set func(string))) {
	key := v.MapKeys()[0]
	value := v.MapIndex(key)
	visit(field+"{}", cmp.Or(tag.Get("key"), "none"), func(s string) {
		v.SetMapIndex(key, reflect.Value{})
		v.SetMapIndex(reflect.ValueOf(s), value)
	})
	v.Clear()
	e := reflect.New(value.Type()).Elem()
	e.Set(value)
	walk(e, field+"."+key.String(), tag.Get("type"), func(field, textType string, set func(string)) {
		visit(field, textType, func(s string) {
			set(s)
			v.SetMapIndex(key, e)
		})
	})
	v.SetMapIndex(key, value)
}
