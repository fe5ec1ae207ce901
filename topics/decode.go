package topics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxPayload is the size in bytes beyond which a payload is refused unread.
const MaxPayload = 1 << 20

// Decode reads a JSON payload. Keys it does not know are ignored; a wrong
// type gives an error that names topic and field.
func Decode[T any](topic string, payload []byte) (T, error) {
	var v T
	if len(payload) > MaxPayload {
		return v, fmt.Errorf("cannot read %s: %d bytes are more than %d", topic, len(payload), MaxPayload)
	}
	err := json.Unmarshal(payload, &v)
	if err == nil {
		return v, nil
	}
	var zero T
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		field := wrong.Field
		if field == "" {
			field = "the payload"
		}
		return zero, fmt.Errorf("cannot read %s: field %s: %s is no %s", topic, field, wrong.Value, describe(wrong.Type.String()))
	}
	return zero, fmt.Errorf("cannot read %s: %w", topic, err)
}

func describe(goType string) string {
	switch goType {
	case "string":
		return "string"
	case "bool":
		return "true or false"
	case "int", "int64", "uint64", "float64":
		return "number of the kind " + goType
	}
	return goType
}

// Encode writes a payload as JSON. The payload types of this package always
// can be written, so there is no error.
func Encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read these messages: "<" stays "<"
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("topics: payload type %T cannot be written: %v", v, err))
	}
	return bytes.TrimRight(b.Bytes(), "\n")
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

// UnmarshalJSON implements json.Unmarshaler. It takes any RFC 3339 time.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a time must be a string such as 2026-01-02T15:04:05.000Z, not %.40s", b)
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fmt.Errorf("a time must be as 2026-01-02T15:04:05.000Z, not %.40q", s)
	}
	t.Time = at.UTC()
	return nil
}

// Seconds is a duration on the wire: a number of seconds.
type Seconds time.Duration

// Duration returns s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Round(time.Millisecond).Seconds())
}

// maxSeconds is about three years: longer durations are mistakes, and would
// overflow when added up.
const maxSeconds = 1e8

// UnmarshalJSON implements json.Unmarshaler.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("a duration must be a number of seconds, not %.40s", b)
	}
	if f < 0 || f > maxSeconds {
		return fmt.Errorf("a duration must be between 0 and %g seconds, not %g", float64(maxSeconds), f)
	}
	*s = Seconds(f * float64(time.Second))
	return nil
}
