package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jmbarzee/dominion/agent/bundles"
	"github.com/jmbarzee/dominion/agent/credentials"
	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/logs"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/secrets"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/internal/mailbox"
)

// Reset makes a machine one that no dominion knows, which is the remedy for a
// copied disk: what a dominion started is stopped, then the keys and the id of the domain,
// the dominion that it joined, its last start command and the bundles are removed. services_dir,
// logs and the data of services stay. No agent may be running on the data_dir.
func Reset(ctx context.Context, c config.Domain, log *slog.Logger) error {
	lock, err := facts.Lock(c.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no agent ever ran here
	}
	if err != nil {
		return fmt.Errorf("cannot reset while an agent runs, stop it first (systemctl stop dominion-domain): %w", err)
	}
	defer lock.Close()
	if err := stopServices(ctx, c, log); err != nil {
		return err
	}
	if err := identity.RemoveDomain(c.DataDir, adoption.CodeFile, secrets.File, homesFile, joinFile, socketFile, credentials.File); err != nil {
		return err
	}
	if err := credentials.Remove(c.DataDir); err != nil {
		return err
	}
	if err := bundles.Remove(bundlesDir(c)); err != nil {
		return err
	}
	// The id goes last: until then a reset that a power cut ended begins again.
	for _, name := range []string{programsFile, commandFile, memoryFile, facts.IdentityFile} {
		file := filepath.Join(c.DataDir, name)
		for _, f := range []string{file + atomicfile.Previous, file} {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot reset: %w", err)
			}
		}
	}
	dir, err := os.Open(c.DataDir)
	if err != nil {
		return fmt.Errorf("cannot reset: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// stopServices stops what an agent left running, and returns when nothing of it is
// left.
func stopServices(ctx context.Context, c config.Domain, log *slog.Logger) error {
	id, err := facts.Identity(c.DataDir, func() string { return supervisor.RunningDomain(c.DataDir, c.RunAs, c.AllowRoot) }, log)
	if err != nil {
		return err
	}
	events := mailbox.New[supervisor.Event](maxEvents)
	s, err := supervisor.New(supervisor.Options{
		ServicesDir: c.ServicesDir, DataDir: c.DataDir, LogDir: logDir(c), RunAs: c.RunAs, AllowRoot: c.AllowRoot, Domain: id, Name: c.Name,
		Post: func(e supervisor.Event) { events.Put(e) }, Logs: logs.New(logDir(c)), Log: log,
	})
	if err != nil {
		return err
	}
	defer s.Close()
	s.Adopt(time.Now())
	s.StopAll(time.Now())
	for !s.Idle() {
		timer := time.NewTimer(time.Second)
		if at := s.Next(); !at.IsZero() {
			timer.Reset(max(0, time.Until(at)))
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.New("cannot reset: ended before the services had stopped")
		case <-events.Ready():
		case <-timer.C:
		}
		timer.Stop()
		waiting, _ := events.Take()
		for _, e := range waiting {
			s.Handle(e, time.Now())
		}
		s.Expire(time.Now())
	}
	return nil
}
