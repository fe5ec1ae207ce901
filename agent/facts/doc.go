// Package facts finds out about the machine that an agent runs on: who it is,
// which services are on its disk, where it is reached and how busy it is. It
// reads files, /proc and /sys, and nothing else; it keeps no goroutine.
//
// It decides nothing and publishes nothing. Only the agent imports it, and
// calls it from its one loop.
//
// # Files
//
//	addresses.go      which addresses the machine has, and which one is used
//	catalog.go        the services on disk and their versions
//	cgroups.go        use of CPU and memory by control groups
//	content.go        a version without a number: the digest of a service's code, and its bounds
//	data_dir_lock.go  one agent for each data_dir
//	domain_id.go      the id of the domain
//	inventory.go      how often disk and addresses are looked at
//	metrics.go        figures of the machine: memory, load, temperature
//	model.go          what board or PC this is
//	platform.go       which programs run on the machine
//	usage.go          CPU and memory of each service, by processes
package facts
