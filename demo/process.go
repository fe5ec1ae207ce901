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
	tooShort = 3 * time.Second  // a program that ran for less is not started again
	again    = time.Second      // before it is, as with the systemd units
	farewell = 25 * time.Second // from SIGTERM until SIGKILL: longer than any stop_timeout here
)

// process keeps a hub or a domain running until it is told to end.
type process struct {
	name, path, config, log string

	tellOnce sync.Once
	told     chan struct{} // closed when it should end
	over     chan struct{} // closed when it ended for good; nil before its start
	running  atomic.Int64  // its process id; 0 before its start
	err      error         // why it had to be killed; written before over is closed
}

func newProcess(name, path, dir, config string) *process {
	return &process{
		name: name, path: path,
		config: filepath.Join(dir, config),
		log:    filepath.Join(dir, name+".log"),
		told:   make(chan struct{}),
	}
}

// start starts the program, and again whenever it ends, as systemd would. One
// that ends at once is given up and reported to ended.
func (p *process) start(ended chan<- error) error {
	cmd, err := p.run()
	if err != nil {
		return err
	}
	p.over = make(chan struct{})
	go p.keep(cmd, ended)
	return nil
}

func (p *process) run() (*exec.Cmd, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(p.path, "-config", p.config)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: Ctrl-C reaches the demo alone, which ends the rest
	// in order. One that is killed cannot, so the kernel tells them to stop; the
	// domains end their services then. It counts the thread that starts a
	// program as its parent: Go ends none while no goroutine is locked to it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	p.running.Store(int64(cmd.Process.Pid))
	return cmd, nil
}

// pid returns the process id of the program as it was started last, 0 before.
func (p *process) pid() int { return int(p.running.Load()) }

func (p *process) keep(cmd *exec.Cmd, ended chan<- error) {
	defer close(p.over)
	for {
		started := time.Now()
		exited := make(chan error, 1)
		go func() { exited <- cmd.Wait() }()

		select {
		case <-p.told:
			p.err = end(p.name, cmd, exited)
			return
		case err := <-exited:
			if time.Since(started) < tooShort {
				ended <- fmt.Errorf("%s ended at once: %v", p.name, err)
				return
			}
		}
		select {
		case <-p.told:
			return
		case <-time.After(again):
		}
		var err error
		if cmd, err = p.run(); err != nil {
			ended <- err
			return
		}
	}
}

// end tells a program to stop, and kills it where it does not.
func end(name string, cmd *exec.Cmd, exited <-chan error) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-exited:
		return nil
	case <-time.After(farewell):
		_ = cmd.Process.Kill()
		<-exited
		return fmt.Errorf("%s did not stop within %v and was killed", name, farewell)
	}
}

// tell asks the program to end; wait waits until it has.
func (p *process) tell() { p.tellOnce.Do(func() { close(p.told) }) }

func (p *process) wait() error {
	if p.over == nil {
		return nil
	}
	<-p.over
	return p.err
}
