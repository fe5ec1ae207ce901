// Command bench measures MQTT brokers side by side, in one run on one machine:
// this project's, mosquitto, mochi and NATS. `make bench-broker` calls it.
//
// It is a module of its own, so that the peers are no dependency of the
// programs. Every load goes over raw sockets on loopback with a client that
// does as little as it can, so that the broker is what is measured. It starts
// each broker, and ends it by pid.
package main
