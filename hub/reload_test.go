package hub

import (
	"reflect"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/config"
)

// Each key is taken over by a reload, or named as one that is not.
func TestAfterRestart(t *testing.T) {
	taken := []string{"File", "Broker.AllowAnonymous", "Broker.Users", "Broker.Rules", "Broker.UserLimits.", "Timing.", "Services"}
	var walk func(c *config.Dominion, v reflect.Value, path string)
	walk = func(c *config.Dominion, v reflect.Value, path string) {
		for i := range v.NumField() {
			f, at := v.Field(i), path+v.Type().Field(i).Name
			switch f.Kind() {
			case reflect.Struct:
				walk(c, f, at+".")
				continue
			case reflect.String:
				f.SetString("x")
			case reflect.Bool:
				f.SetBool(true)
			case reflect.Slice:
				f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			default:
				f.Set(reflect.ValueOf(1).Convert(f.Type()))
			}
			keys, want := config.Dominion{}.ChangedByRestart(*c), 1
			for _, known := range taken {
				if at == known || strings.HasSuffix(known, ".") && strings.HasPrefix(at, known) {
					want = 0
				}
			}
			if len(keys) != want {
				t.Errorf("%s: %q", at, keys)
			}
			f.SetZero()
		}
	}
	var c config.Dominion
	walk(&c, reflect.ValueOf(&c).Elem(), "")
}
