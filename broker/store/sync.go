package store

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// syncJob is what one sync covers.
type syncJob struct {
	// sealedFiles are closed after it.
	sealedFiles []*os.File
	tail        *os.File
	// dir is "" if there are no new names in it.
	dir string
	// removeUpTo is the last segment that is no longer needed after it.
	removeUpTo int
	err        error
}

// scheduleSync sets the timer of the next sync.
func (s *Store) scheduleSync() {
	s.unsynced = true
	if s.syncTimer == nil && !s.syncing {
		wait := s.options.Sync
		if s.syncFailed {
			wait = max(wait, retryAfter)
		}
		s.syncTimer = time.NewTimer(wait)
	}
}

// startSync syncs on another goroutine; writing continues.
func (s *Store) startSync() {
	if s.syncing || !s.unsynced {
		return
	}
	s.syncing = true
	r := s.newSyncJob()
	go func() {
		r.err = s.sync(r)
		s.syncDone <- r
	}()
}

// newSyncJob returns what is to be synced now.
func (s *Store) newSyncJob() syncJob {
	t := syncJob{sealedFiles: s.sealedFiles, tail: s.tail.file, removeUpTo: s.compactor.movedUpTo}
	if s.dirUnsynced {
		t.dir = s.tail.dir
	}
	s.sealedFiles, s.dirUnsynced, s.unsynced = nil, false, false
	return t
}

// sync makes the content of files, and new names, durable. It is called from other
// goroutines too.
func (s *Store) sync(t syncJob) (err error) {
	if s.options.sync != nil {
		return s.options.sync(t)
	}
	for _, f := range append(t.sealedFiles[:len(t.sealedFiles):len(t.sealedFiles)], t.tail) {
		s.counters.syncs.Add(1)
		err = errors.Join(err, f.Sync())
	}
	if t.dir == "" {
		return err
	}
	s.counters.syncs.Add(1)
	d, openErr := os.Open(t.dir)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return errors.Join(err, d.Sync(), d.Close())
}

// finishSync handles the result of a sync.
func (s *Store) finishSync(r syncJob) {
	s.syncing = false
	if r.err != nil {
		if !s.syncFailed {
			s.options.Log.Error("the store's disk does not sync: writes may not survive a power cut until it does", "dir", s.tail.dir, "error", r.err)
		}
		s.syncFailed = true
		s.sealedFiles, s.dirUnsynced = append(r.sealedFiles, s.sealedFiles...), true
		s.scheduleSync()
		return
	}
	for _, f := range r.sealedFiles {
		_ = f.Close()
	}
	if files := s.previousFiles; files != nil {
		// They are part of the next sync. Until then no segment is removed: what
		// replaced it may be in these files.
		s.previousFiles = nil
		s.sealedFiles = append(files, s.sealedFiles...)
		s.unsynced = true
	} else if !s.syncFailed {
		s.removeSegments(r.removeUpTo)
	}
	if s.syncFailed {
		s.recoverFromFailedSync()
	}
	if s.unsynced {
		s.scheduleSync()
	}
	s.updateStats()
}

// recoverFromFailedSync is called when a sync succeeds after one that failed.
func (s *Store) recoverFromFailedSync() {
	s.syncFailed = false
	if s.rewriteLive() {
		s.options.Log.Info("the store's disk syncs again, and all live data was rewritten", "dir", s.tail.dir)
		return
	}
	// The disk is full: only segments that are moved from now on may be removed.
	s.compactor.close()
	s.compactor.movedUpTo = 0
	s.options.Log.Error("the store's disk syncs again, but has no space to rewrite what it may have lost: a power cut may lose that", "dir", s.tail.dir)
}

// syncNow syncs before it returns.
func (s *Store) syncNow() error {
	if s.syncing {
		s.finishSync(<-s.syncDone)
	}
	for {
		r := s.newSyncJob()
		r.err = s.sync(r)
		failedBefore := s.syncFailed
		s.finishSync(r)
		if r.err != nil || !failedBefore || s.syncFailed {
			return r.err // otherwise what was rewritten must be synced, too
		}
	}
}

// syncPreviousRun schedules a sync of the whole log: the process that wrote it may
// have been killed before its last sync, and then the system writes it at any time.
// New writes do not wait for that.
func (s *Store) syncPreviousRun() error {
	for _, one := range s.segments {
		f, err := os.Open(filepath.Join(s.tail.dir, segmentName(one.number)))
		if err != nil {
			return err
		}
		s.previousFiles = append(s.previousFiles, f)
	}
	s.unsynced, s.dirUnsynced = true, true
	return nil
}
