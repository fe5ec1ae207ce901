// Package conformance tests MQTT servers from outside, over real sockets: each
// test names the normative statements of MQTT 3.1.1 and 5.0 that it shows, and
// docs/conformance.md is generated from these names.
//
// It holds tests only and owns a client of its own that writes and reads
// packets byte by byte, so that nothing it sends or checks depends on the
// codec of the server. It imports the broker's packages to start them, and
// nothing imports it.
//
//	go test ./broker/conformance -run TestConformance/mosquitto
//	go test ./broker/conformance -run TestDocument -update
package conformance
