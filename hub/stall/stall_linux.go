package stall

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Read returns the figures of now. It takes some ten microseconds: nothing of it
// is on a disk.
func Read() Figures {
	f := Figures{Available: true, Suspended: clock(unix.CLOCK_BOOTTIME) - clock(unix.CLOCK_MONOTONIC)}
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) != nil {
		return Figures{}
	}
	f.Faults = int64(used.Majflt)
	f.Ran = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	f.Memory, f.Pressure = pressure("/proc/pressure/memory")
	tasks, err := os.Open("/proc/self/task")
	if err != nil {
		return Figures{}
	}
	defer tasks.Close()
	names, _ := tasks.Readdirnames(-1)
	for _, task := range names {
		// the time on a processor, and that of waiting for one, in ns
		if b, err := os.ReadFile("/proc/self/task/" + task + "/schedstat"); err == nil {
			f.Waited += time.Duration(field(b, 1))
		}
	}
	return f
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(id, &t)
	return time.Duration(t.Nano())
}

// pressure returns for how long something waited, by a file of PSI; false: this
// kernel has none.
func pressure(name string) (time.Duration, bool) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	line, _, _ := bytes.Cut(b, []byte("\n")) // some avg10=… avg60=… avg300=… total=µs
	_, total, found := bytes.Cut(line, []byte("total="))
	return time.Duration(field(total, 0)) * time.Microsecond, found
}

// field returns the number that is the nth field of a line; 0 where there is none.
func field(line []byte, n int) int64 {
	all := bytes.Fields(line)
	if n >= len(all) {
		return 0
	}
	v, _ := strconv.ParseInt(string(all[n]), 10, 64)
	return v
}
