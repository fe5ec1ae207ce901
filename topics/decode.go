package topics

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
)

// Decode reads a JSON payload. Keys it does not know are ignored; a wrong
// type, and text that is not of its TextType, gives an error that names topic
// and field.
func Decode[T any](topic string, payload []byte) (T, error) {
	v, err := DecodeForDisplay[T](topic, payload)
	if err != nil {
		return v, err
	}
	at := reflect.ValueOf(&v).Elem()
	if err := checkerOf(at.Type())(at, ""); err != nil {
		var zero T
		return zero, fmt.Errorf("cannot read %s: %w", topic, err)
	}
	return v, nil
}

// DecodeForDisplay reads a payload as Decode does, but takes any text. It is
// for programs that show a payload to a person, without terminal escapes, and neither
// store it nor act on it.
func DecodeForDisplay[T any](topic string, payload []byte) (T, error) {
	var v, zero T
	if err := checkSize(payload); err != nil {
		return zero, fmt.Errorf("cannot read %s: %w", topic, err)
	}
	err := json.Unmarshal(payload, &v)
	if b, is := any(&v).(bounded); is && err == nil {
		err = b.checkLengths()
	}
	if err == nil {
		return v, nil
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		field := "the payload"
		if wrong.Field != "" {
			field = "field " + wrong.Field
		}
		// The literal may be a number of a megabyte.
		return zero, fmt.Errorf("cannot read %s: %.200s: %.80s is not %s", topic, field, wrong.Value, describe(wrong.Type))
	}
	return zero, fmt.Errorf("cannot read %s: %w", topic, err)
}

// TransactionOf reads nothing but the transaction of a payload that Decode
// refused: the sender waits for an answer that has it. "" where it cannot be read.
func TransactionOf(payload []byte) string {
	if len(payload) > MaxPayload {
		return ""
	}
	var v struct {
		Transaction json.RawMessage `json:"transaction"`
	}
	var transaction string
	if json.Unmarshal(payload, &v) != nil || v.Transaction == nil || json.Unmarshal(v.Transaction, &transaction) != nil || len(transaction) > MaxText {
		return ""
	}
	return transaction
}

// describe names a type as a person who writes JSON does.
func describe(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Time]():
		return `a time such as "2026-01-02T15:04:05.000Z"`
	case reflect.TypeFor[Seconds]():
		return fmt.Sprintf("a number of seconds from 0 to %.0f", float64(maxSeconds))
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Uint64:
		return "a whole number from 0"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return t.String()
}

// Time is a moment on the wire: RFC 3339, UTC, milliseconds.
type Time struct{ time.Time }

const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// At returns the moment t as the wire shows it.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format(timeFormat) + `"`), nil
}

// UnmarshalJSON implements json.Unmarshaler. It takes any RFC 3339 time; null
// leaves t as it is. Its error is one that Decode adds the field's name to.
func (t *Time) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var at time.Time
	err := at.UnmarshalJSON(b) // as every agent writes it, and without an allocation
	if err != nil {
		var s string
		if json.Unmarshal(b, &s) != nil {
			return refuse[Time](b)
		}
		at, err = time.Parse(time.RFC3339Nano, s)
	}
	// A zone's offset can push the first and the last day out of the years that
	// RFC 3339 can write.
	if at = at.UTC(); err != nil || at.Year() < 0 || at.Year() > 9999 {
		return refuse[Time](b)
	}
	t.Time = at
	return nil
}

// refuse is the error that a literal is not a T, cut short where it is long.
func refuse[T any](literal []byte) error {
	shown := string(literal[:min(len(literal), 40)])
	return &json.UnmarshalTypeError{Value: strings.ToValidUTF8(shown, "…"), Type: reflect.TypeFor[T]()}
}

// Seconds is a duration on the wire: a number of seconds.
type Seconds time.Duration

// Duration returns s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	// Divided here: Duration.Seconds gives 1.2349999999999999.
	return json.Marshal(float64(time.Duration(s).Round(time.Millisecond).Milliseconds()) / 1000)
}

// UnmarshalJSON implements json.Unmarshaler; null leaves s as it is. Its error
// is one that Decode adds the field's name to.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var f float64
	if err := json.Unmarshal(b, &f); err != nil || f < 0 || f > maxSeconds {
		return refuse[Seconds](b)
	}
	*s = Seconds(math.Round(f*1000)) * Seconds(time.Millisecond)
	return nil
}

// StartedAt returns when something began, by the clock at now: a machine
// without a clock of its own begins in 1970, until its clock is set. before is
// what was published last, and stays unless the clock was set by more than a
// minute since, so that no message changes as a clock drifts.
func StartedAt(began, now time.Time, before Time) Time {
	at := now.Round(0).Add(-now.Sub(began)) // by the monotonic clock
	if before.IsZero() || at.Sub(before.Time).Abs() > time.Minute {
		return At(at)
	}
	return before
}
