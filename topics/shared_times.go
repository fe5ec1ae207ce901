package topics

import "time"

// RestartReset is how long an instance must have been well after a crash until
// that is forgiven: until then it counts as one that crashes.
const RestartReset = 5 * time.Minute

// MetricsInterval is the time between two metrics of a domain.
const MetricsInterval = 30 * time.Second
