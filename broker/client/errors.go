package client

import (
	"errors"
	"fmt"

	"github.com/jmbarzee/dominion/broker/wire"
)

// ErrNotAuthorized is the cause if a broker refuses user and password, or has banned
// the client.
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

// ConnectError is the error of a connection that the broker refused in CONNACK. By
// errors.Is it is ErrNotAuthorized, ErrClientID or ErrVersion if its code means that.
type ConnectError struct {
	// Code is the reason code of MQTT 5.0. A return code of 3.1.1 is translated.
	Code byte
	// Text is the broker's reason string; "": none.
	Text string
	// version is that of the answer.
	version byte
	// noUser is set if the client has none.
	noUser bool
}

// returnCodes are the reason codes for the return codes of 3.1.1 (3.2.2.3).
var returnCodes = [...]byte{wire.Unspecified, wire.UnsupportedVersion, wire.ClientIdentifierNotValid, wire.ServerUnavailable, wire.BadUserNameOrPassword, wire.NotAuthorized}

// newConnectError returns the error for a CONNACK that refuses.
func newConnectError(a wire.Answer, user string) *ConnectError {
	e := &ConnectError{Code: a.Code, Text: a.Reason, version: a.Version, noUser: user == ""}
	if int(a.Code) < len(returnCodes) {
		e.Code, e.version = returnCodes[a.Code], wire.V311
	} else if a.Version != wire.V5 {
		e.Code = wire.Unspecified
	}
	return e
}

// Error includes the reason code, unless the broker has only return codes of 3.1.1 and
// the meaning says the same.
func (e *ConnectError) Error() string {
	meaning, reason := "", wire.DescribeReason(e.Code, e.Text)
	switch cause := e.cause(); {
	case cause == nil, e.Code == wire.Banned:
		return "the broker refused the connection: " + reason
	case cause == ErrNotAuthorized && e.noUser:
		meaning = "the broker requires user and password"
	default:
		meaning = cause.Error()
	}
	if e.version != wire.V5 {
		return meaning
	}
	return reason + ": " + meaning
}

// cause returns the error that it is by errors.Is; nil: none.
func (e *ConnectError) cause() error {
	switch e.Code {
	case wire.BadUserNameOrPassword, wire.NotAuthorized, wire.Banned:
		return ErrNotAuthorized
	case wire.ClientIdentifierNotValid:
		return ErrClientID
	case wire.UnsupportedVersion:
		return ErrVersion
	}
	return nil
}

// Is reports whether the code means target.
func (e *ConnectError) Is(target error) bool { return target != nil && e.cause() == target }

// SubscribeError is the error of a subscription that the broker refused. By errors.Is
// it is ErrRefused.
type SubscribeError struct {
	Filter string
	// Broker is its URL.
	Broker string
	// Code is the reason code. In MQTT 3.1.1 it is always 0x80.
	Code byte
	// Text is the broker's reason string; "": none.
	Text string
}

// Error names the filter, the broker and the reason.
func (e *SubscribeError) Error() string {
	return fmt.Sprintf("cannot subscribe to %s: refused by %s; %s", e.Filter, e.Broker, e.Reason())
}

// Reason returns why: the broker's reason, or the possible ones if it gave none.
func (e *SubscribeError) Reason() string {
	switch {
	case e.Code == wire.NotAuthorized:
		return "the user's role does not allow it: " + wire.DescribeReason(e.Code, e.Text)
	case e.Code == wire.Unspecified && e.Text == "":
		return ErrRefused.Error()
	}
	return wire.DescribeReason(e.Code, e.Text)
}

// Is reports whether target is ErrRefused.
func (e *SubscribeError) Is(target error) bool { return target == ErrRefused }

// DisconnectError is the error of a connection that the broker ended with a DISCONNECT
// of MQTT 5.0.
type DisconnectError struct {
	Code byte
	// Text is the broker's reason string; "": none.
	Text string
}

// Error includes the broker's reason.
func (d *DisconnectError) Error() string {
	return "the broker ended the connection: " + wire.DescribeReason(d.Code, d.Text)
}

// CausedByMessage reports whether the reason is an error of what was sent, not a state
// of broker, network or session.
func (d *DisconnectError) CausedByMessage() bool {
	switch d.Code {
	case wire.MalformedPacket, wire.ProtocolError, wire.ImplementationSpecific, wire.NotAuthorized, wire.TopicNameInvalid,
		wire.TopicAliasInvalid, wire.PacketTooLarge, wire.PayloadFormatInvalid, wire.RetainNotSupported, wire.QoSNotSupported:
		return true
	}
	return false
}
