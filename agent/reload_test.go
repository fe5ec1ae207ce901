package agent

import (
	"reflect"
	"slices"
	"testing"

	"github.com/jmbarzee/dominion/config"
)

// Each key is taken over by a reload, or named as one that is not.
func TestAfterRestart(t *testing.T) {
	taken := []string{"File", "Traits", "Address", "StopServicesOnExit"}
	var all []string
	for i := range reflect.TypeFor[config.Domain]().NumField() {
		if reflect.TypeFor[config.Domain]().Field(i).Name == "AcceptIsDefault" {
			continue // it changes with the key accept alone
		}
		var c config.Domain
		v := reflect.ValueOf(&c).Elem()
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int64:
			f.SetInt(1)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Struct:
			f.Field(0).SetBool(true) // of Zeroconf
		default:
			t.Fatalf("no value for a %v", f.Type())
		}
		keys, want := config.Domain{}.ChangedByRestart(c), 1
		if slices.Contains(taken, v.Type().Field(i).Name) {
			want = 0
		}
		if len(keys) != want {
			t.Errorf("%s: %q", v.Type().Field(i).Name, keys)
		}
		all = append(all, keys...)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("a key is named twice: %q", all)
	}
}
