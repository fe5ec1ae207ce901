package limits_test

import (
	"reflect"
	"testing"

	"github.com/jmbarzee/dominion/broker/limits"
)

// Each field has one row, and each row a field of its own.
func TestEachLimitIsOneRow(t *testing.T) {
	var l limits.Limits
	var u limits.UserLimits
	rows, keys := make(map[any]string), make(map[string]bool)
	for _, row := range limits.Rows {
		field := row.Of(&l, &u)
		if other := rows[field]; other != "" || keys[row.Key] {
			t.Errorf("%s: the field or the key is that of another row, %q", row.Key, other)
		}
		rows[field], keys[row.Key] = row.Key, true
		if row.Beyond == "" {
			t.Errorf("%s: nothing says what happens beyond it", row.Key)
		}
	}
	for _, fields := range []reflect.Value{reflect.ValueOf(&l).Elem(), reflect.ValueOf(&u).Elem()} {
		for i := range fields.NumField() {
			if rows[fields.Field(i).Addr().Interface()] == "" {
				t.Errorf("%s.%s has no row", fields.Type().Name(), fields.Type().Field(i).Name)
			}
		}
	}
}

// The defaults keep to the ranges that a file must keep to.
func TestDefaultsAreInRange(t *testing.T) {
	l, u := limits.Default(), limits.DefaultUsers()
	for _, row := range limits.Rows {
		field := reflect.ValueOf(row.Of(&l, &u)).Elem()
		n := 0
		if field.CanUint() {
			n = int(field.Uint())
		} else {
			n = int(field.Int())
		}
		switch {
		case n == 0 && !row.Optional, n < row.Least, row.Most > 0 && n > row.Most:
			t.Errorf("%s: the default %d is out of range", row.Key, n)
		case row.HoldsPacket && n > 0 && n < l.MaxPacket:
			t.Errorf("%s: the default %d holds no packet of %d", row.Key, n, l.MaxPacket)
		}
	}
}

// What is not set, or not valid, is the default; the rest stays.
func TestWithDefaults(t *testing.T) {
	if got, want := (limits.Limits{}).WithDefaults(), limits.Default(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	want := limits.Default()
	want.MaxConnections, want.TopicAliasMaximum, want.Memory = 3, 7, 1000
	if got := (limits.Limits{MaxConnections: 3, TopicAliasMaximum: 7, Memory: 1000, MaxPacket: -1}).WithDefaults(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
