package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	minimumRun   = 3 * time.Second  // a program that ran for less is not started again
	restartDelay = time.Second      // before it is, as with the systemd units
	stopTimeout  = 25 * time.Second // from SIGTERM until SIGKILL: longer than any stop_timeout here
)

// process supervises a hub or a domain until it is asked to stop.
type process struct {
	name, path, config, log string

	stopOnce      sync.Once
	stopRequested chan struct{} // closed when it should stop
	done          chan struct{} // closed when it has stopped; nil before its start
	processID     atomic.Int64  // its process id; 0 before its start
	err           error         // why it had to be killed; written before done is closed
}

func newProcess(name, path, dir, config string) *process {
	return &process{
		name: name, path: path,
		config:        filepath.Join(dir, config),
		log:           filepath.Join(dir, name+".log"),
		stopRequested: make(chan struct{}),
	}
}

// start starts the program, and again whenever it ends, as systemd would. One
// that ends at once is not restarted, and reported to ended.
func (p *process) start(ended chan<- error) error {
	cmd, err := p.run()
	if err != nil {
		return err
	}
	p.done = make(chan struct{})
	go p.supervise(cmd, ended)
	return nil
}

// run starts the program once, with its log.
func (p *process) run() (*exec.Cmd, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(p.path, "-config", p.config)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: Ctrl-C reaches the demo alone, which ends the rest
	// in order. One that is killed cannot, so the kernel sends them SIGTERM; the
	// domains end their services then. It counts the thread that starts a
	// program as its parent: Go ends none while no goroutine is locked to it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	p.processID.Store(int64(cmd.Process.Pid))
	return cmd, nil
}

// pid returns the process id of the program as it was started last, 0 before.
func (p *process) pid() int { return int(p.processID.Load()) }

// supervise restarts the program whenever it ends, until it is asked to stop.
func (p *process) supervise(cmd *exec.Cmd, ended chan<- error) {
	defer close(p.done)
	for {
		started := time.Now()
		exited := make(chan error, 1)
		go func() { exited <- cmd.Wait() }()

		select {
		case <-p.stopRequested:
			p.err = end(p.name, cmd, exited)
			return
		case err := <-exited:
			if time.Since(started) < minimumRun {
				ended <- fmt.Errorf("%s ended at once: %v", p.name, err)
				return
			}
		}
		select {
		case <-p.stopRequested:
			return
		case <-time.After(restartDelay):
		}
		var err error
		if cmd, err = p.run(); err != nil {
			ended <- err
			return
		}
	}
}

// end asks a program to stop, and kills it where it does not.
func end(name string, cmd *exec.Cmd, exited <-chan error) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-exited:
		return nil
	case <-time.After(stopTimeout):
		_ = cmd.Process.Kill()
		<-exited
		return fmt.Errorf("%s did not stop within %v and was killed", name, stopTimeout)
	}
}

// requestStop asks the program to stop; wait waits until it has.
func (p *process) requestStop() { p.stopOnce.Do(func() { close(p.stopRequested) }) }

func (p *process) wait() error {
	if p.done == nil {
		return nil
	}
	<-p.done
	return p.err
}
