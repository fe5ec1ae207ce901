package hub

import (
	"path/filepath"

	"github.com/jmbarzee/dominion/broker"
)

// controlName is the file name of the control socket.
const controlName = "control"

// controlPath returns the path of the control socket: in the directory that systemd
// makes for the unit, else in data_dir.
func (s Service) controlPath() string {
	if dir := runtimeDirectory(s.Environ); dir != "" {
		return filepath.Join(dir, controlName)
	}
	return filepath.Join(s.Config.DataDir, controlName)
}

// openControl opens the control socket on a broker, and sets what the hub says of it.
func (s Service) openControl(b *broker.Broker, o *Options) {
	o.Control = s.controlPath()
	if err := b.ListenControl(o.Control); err != nil {
		s.Log.Error(err.Error())
		o.Control, o.ControlProblem = "", err.Error()
	}
}

// externalControl returns a broker for the control socket beside an external broker:
// nobody else reaches it, and it carries private requests only.
func (s Service) externalControl() (*broker.Broker, error) {
	return broker.New(broker.Config{ControlOnly: true, Prefix: s.Config.TopicPrefix, DiscoveryPrefix: s.Config.HomeAssistant.DiscoveryPrefix, Version: s.Version}, s.Log)
}
