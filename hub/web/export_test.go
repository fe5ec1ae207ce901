package web

import "time"

// RetryEvery has Serve try addresses that are taken so often.
func (s *Server) RetryEvery(d time.Duration) { s.every = d }
