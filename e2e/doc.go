// Package e2e runs the built programs as a home would: hosts are network
// namespaces on a bridge, services are real processes started by make, and
// what is seen is what mosquitto_sub of Debian prints.
//
// It owns the harness (Home, Host, Domain, Observer) and the scenarios of
// which the product's promises are made. It knows the programs by their
// configuration files, their topics and their command line alone: of the
// module it imports only topics. Nobody imports it.
//
// What must come is waited for with patience, as machines are crowded at times;
// a promise is a time that is measured where it counts: by the process, the
// event, the heartbeat. And nothing is taken for what was so before: hub/status
// counts when it is of the last hub that was started, a heartbeat when it was
// made after a Mark, the journal when it tells of all that is said to run (Lives).
//
// The tests run with DOMINION_E2E=1, the bench with DOMINION_BENCH=1.
// They need Linux, root, ip of iproute2, make, mosquitto and its clients;
// without one of these they are skipped and say so.
//
//	DOMINION_E2E_BIN=dir       try the programs in dir instead of building them
//	DOMINION_E2E_CLONE=0|demo  leave out the fresh clone, or its make test
//	DOMINION_E2E_SEED=n        what happens in TestAfterMuchMisfortune and TestSoak
//	DOMINION_E2E_MISHAPS=n     how much of it
//	DOMINION_E2E_SOAK=10m      how long TestSoak lasts, and another seed each time; a minute otherwise (make soak)
//	DOMINION_E2E_LONG=1h       how long TestCertificatesOfAMinute lasts, a minute and a half otherwise
//	DOMINION_E2E_KILLS=n       how often TestBrokerKilledUnderLoad kills the hub, 8 otherwise
//	DOMINION_E2E_HOMEASSISTANT=dir  the Home Assistant that build/homeassistant.sh made, for
//	                                TestHomeAssistant… (make e2e-homeassistant)
//
// The whole run is enclosed in namespaces of its own (pid, mount, network):
// whatever a test leaves behind ends with it, also when the test is killed.
package e2e
