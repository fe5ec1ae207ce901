// Package simulation runs the real hub, the real broker and the real agents of
// a home together on virtual time: minutes in milliseconds, with links that
// break, machines that lose their power and hubs that restart. Only the
// processes and the wire are played. It holds tests alone; nobody imports it.
package simulation
