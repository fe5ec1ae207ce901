package topics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
)

// Encode writes a payload as JSON. The payload types of this package always
// can be written, so there is no error. A list that is nil is written as [] and
// a map that is nil as {}: a reader in a template or on a microcontroller must
// not meet null where the contract says list.
func Encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read these messages: "<" stays "<"
	if err := e.Encode(writable(reflect.ValueOf(v))); err != nil {
		panic(fmt.Sprintf("topics: payload type %T cannot be written: %v", v, err))
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// writable returns v without what JSON cannot express, or writes as null. It copies
// what it changes: v may be shared.
func writable(v reflect.Value) any {
	if !v.IsValid() {
		return nil
	}
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	normalize(c)
	return c.Interface()
}

// normalize replaces in v what writable removes: NaN and infinities by 0, nil lists and
// maps by empty ones.
func normalize(v reflect.Value) {
	if !v.CanSet() || v.Type() == reflect.TypeFor[Time]() || v.Type() == reflect.TypeFor[json.RawMessage]() {
		return
	}
	switch v.Kind() {
	case reflect.Float64: // a division by a clock that did not move gives these
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			v.SetFloat(0)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			c := reflect.New(v.Elem().Type())
			c.Elem().Set(v.Elem())
			normalize(c.Elem())
			if v.Kind() == reflect.Interface {
				c = c.Elem()
			}
			v.Set(c)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			normalize(v.Field(i))
		}
	case reflect.Slice:
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(c, v)
		for i := range c.Len() {
			normalize(c.Index(i))
		}
		v.Set(c)
	case reflect.Map:
		c := reflect.MakeMapWithSize(v.Type(), v.Len())
		for key, value := range v.Seq2() {
			e := reflect.New(value.Type()).Elem()
			e.Set(value)
			normalize(e)
			c.SetMapIndex(key, e)
		}
		v.Set(c)
	}
}
