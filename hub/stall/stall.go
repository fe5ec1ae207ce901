// Package stall finds out why a loop that should have run every second did not: from
// figures of the kernel, read before and after. Cause is pure; Read reads the
// figures of Linux, and none elsewhere. It starts no goroutine and no timer.
package stall

import (
	"fmt"
	"time"
)

// Figures are totals, of which the difference between two readings counts. Available
// is false where the kernel gives none.
type Figures struct {
	Available bool
	// Suspended is for how long the machine was suspended since its start.
	Suspended time.Duration
	// Memory is for how long something on this machine waited for memory (PSI, some).
	Memory time.Duration
	// Pressure is set where Memory was read.
	Pressure bool
	// Faults counts the pages that this process had to wait for a disk for.
	Faults int64
	// Ran is the CPU time of this process.
	Ran time.Duration
	// Waited is for how long threads of this process were ready to run and did not.
	Waited time.Duration
}

// faultsPerSecond is how many pages a second a process waits for that is being
// pushed out of memory: one that is not waits for next to none.
const faultsPerSecond = 20

// Cause returns why a loop stood still, in words, by the figures before and after. disk
// is for how long of that it waited for the disk of its own files. It is an ordered
// table: the first row that fits decides. Two rows can fit one cause, as
// the wait for memory is a wait for a disk: the narrower one comes first.
func Cause(before, after Figures, still, disk time.Duration) string {
	faults, pressure := after.Faults-before.Faults, after.Memory-before.Memory
	waited, ran := after.Waited-before.Waited, after.Ran-before.Ran
	switch {
	case disk > still/2:
		return "the disk of its data_dir did not answer"
	case !before.Available || !after.Available:
		return "is this machine out of memory, or was it paused?"
	case after.Suspended-before.Suspended > still/2:
		return fmt.Sprintf("the machine was suspended for %v", (after.Suspended - before.Suspended).Round(time.Second))
	case pressure > still/4, !after.Pressure && float64(faults) > faultsPerSecond*still.Seconds():
		return fmt.Sprintf("the machine is out of memory (programs waited for memory for %v, this one for %d pages)", pressure.Round(time.Millisecond), faults)
	case waited > still/2:
		return fmt.Sprintf("too little CPU: it waited for a processor for %v", min(waited, still).Round(time.Millisecond))
	case ran > still/2:
		return fmt.Sprintf("it was busy itself for %v of CPU time", ran.Round(time.Millisecond))
	case float64(faults) > faultsPerSecond*still.Seconds():
		return fmt.Sprintf("the machine is short of memory (this program waited for %d pages)", faults)
	}
	return "it was paused (SIGSTOP, a frozen container, a debugger), or its virtual machine was given no processor"
}
