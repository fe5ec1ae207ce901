package hub

import (
	"reflect"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/config"
)

// TestReloadFollowsTheRows changes a key that a reload takes over and one that it does
// not: which they are is written in the rows of package config alone.
func TestReloadFollowsTheRows(t *testing.T) {
	h := town(t, 0, 2)
	was, next := h.cfg, h.cfg
	next.Name, next.Metrics = "other", "other"
	next.Timing.LostAfter++
	next.Broker.UserLimits.Clients++
	next.Services = next.Services[:1]
	h.reload(next, nil)
	want := was
	want.TakeOver(next)
	if !reflect.DeepEqual(h.cfg, want) || reflect.DeepEqual(h.cfg, was) || len(h.defs.Configured()) != 1 || h.cfg.Name != was.Name {
		t.Errorf("%+v\nwant %+v", h.cfg, want)
	}
}

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
			var was config.Dominion
			was.TakeOver(*c)
			if took := !reflect.DeepEqual(was, config.Dominion{}); took != (want == 0 && at != "File") {
				t.Errorf("%s is taken over: %v", at, took)
			}
			f.SetZero()
		}
	}
	var c config.Dominion
	walk(&c, reflect.ValueOf(&c).Elem(), "")
}
