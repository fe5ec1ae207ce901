package supervisor

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/jmbarzee/dominion/internal/procfs"
	"github.com/jmbarzee/dominion/topics"
)

// Whatever is killed, in whatever order: all run again, and no stray is left.
func TestRandomKillsAreSurvived(t *testing.T) {
	h := newHost(t)
	specs := make(map[string]topics.Spec)
	for i := range 8 {
		name := fmt.Sprintf("web%d", i)
		h.makefile(name, `sleep 100 & sleep 100 & wait`)
		specs[name] = spec("r1")
	}
	h.apply(specs)
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		if all := h.processes(); len(all) > 0 {
			pid := all[r.IntN(len(all))]
			if p, ok := procfs.Root.Stat(pid); ok && r.IntN(4) == 0 {
				pid = -p.Group
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if round%10 == 9 { // or it fails too often
			for name, s := range specs {
				s.Revision = fmt.Sprint("r", round)
				specs[name] = s
			}
			h.apply(specs)
		}
		h.until("all live", func() bool { return len(h.s.Groups()) == len(specs) })
	}
	h.until("all run", func() bool {
		for _, i := range h.s.Instances() {
			if i.State != topics.Running {
				return false
			}
		}
		return true
	})
	for name, group := range h.s.Groups() {
		h.until(name+" is whole", func() bool { return len(Group{PID: group}.members()) == 4 })
	}
	h.until("nothing else runs", func() bool { return len(h.processes()) == 4*len(specs) })
}
