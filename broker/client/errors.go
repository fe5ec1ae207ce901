package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// ErrNotAuthorized is the cause if a broker refuses user and password.
var ErrNotAuthorized = errors.New("the broker refused user or password")

// ErrRefused is the cause if a broker refuses a subscription (SUBACK 0x80 and above).
// Usually the user may not read the topic, but brokers also refuse filters and kinds
// of subscriptions that they do not support.
var ErrRefused = errors.New("the user's role does not allow it, or the broker does not support this subscription, or not at present")

// ErrVersion is the cause if a broker does not support the requested version of MQTT.
var ErrVersion = errors.New("the broker does not support this version of MQTT")

// ErrClientID is the cause if a broker refuses the client identifier: it belongs to
// another user, or this one may not use it.
var ErrClientID = errors.New("the broker refused the client identifier for this user")

// ErrNoAnswer is the cause if a broker closes the connection instead of answering
// CONNECT.
var ErrNoAnswer = errors.New("it closed the connection before it answered")

// noAnswerError is ErrNoAnswer with the error of the connection.
type noAnswerError struct{ err error }

func (n noAnswerError) Error() string { return ErrNoAnswer.Error() + ": " + n.err.Error() }

func (n noAnswerError) Unwrap() error { return n.err }

func (n noAnswerError) Is(target error) bool { return target == ErrNoAnswer }

// credentialsRequired is ErrNotAuthorized for a client without a user.
type credentialsRequired struct{}

func (credentialsRequired) Error() string { return "the broker requires user and password" }

func (credentialsRequired) Is(target error) bool { return target == ErrNotAuthorized }

// connectError returns the cause of a failed connection, in order of precedence.
func connectError(err, dialErr error, user string, ctx context.Context) error {
	switch {
	case dialErr != nil:
		return dialErr
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		if user == "" {
			return credentialsRequired{}
		}
		return ErrNotAuthorized
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return ErrClientID
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return ErrVersion
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("it accepted the connection, but did not answer as an MQTT broker in time: %w", ctx.Err())
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if both, ok := err.(interface{ Unwrap() []error }); ok { // paho's "network Error : cause"
		if all := both.Unwrap(); len(all) > 1 {
			err = all[len(all)-1]
		}
	}
	return noAnswerError{err}
}
