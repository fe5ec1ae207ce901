// Package simulation runs the real hub and the real agents of a home together on
// virtual time: minutes in milliseconds, with links that break, machines that
// lose their power, hubs that are restored and users who change their minds.
// Only the processes and the network are simulated: wires between the agents and
// the real broker (wires_test.go), or a post office that hands messages over and
// takes liberties (post_test.go). laws_test.go checks what holds at every step,
// healthy_test.go what must be so in the end. It has tests only; nothing imports it.
//
//	go test ./simulation -seeds 100 -days 7     so many homes, weeks for so many days
//	go test ./simulation -seed 42 -seeds 1 -v   that home again, with its logs
package simulation
