package orders

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

func TestJudge(t *testing.T) {
	online := hubView{availability: topics.Online, statusReceived: true, epoch: 7, protocol: topics.Protocol}
	at := func(epoch, generation uint64) commandContext {
		return commandContext{domain: "me", dominion: "d1", last: Accepted{Present: true, Epoch: epoch, Generation: generation}, granted: 7, hub: online}
	}
	with := func(s commandContext, change func(*commandContext)) commandContext {
		change(&s)
		return s
	}
	command := func(epoch, generation uint64) topics.StartCommand {
		return topics.StartCommand{Dominion: "d1", Domain: "me", Epoch: epoch, Generation: generation}
	}
	signed := func(epoch, generation uint64) topics.StartCommand {
		c := command(epoch, generation)
		c.Key = "k"
		return c
	}
	ofRun := func(c topics.StartCommand, run string) topics.StartCommand {
		c.Run = run
		return c
	}
	// The grant is of a run, and what was obeyed last of another one.
	granted := func(s commandContext) commandContext {
		s.run, s.rejoined, s.last.Run = "r2", true, "r1"
		return s
	}
	fresh := commandContext{domain: "me", dominion: "d1", granted: 7, hub: online}
	for _, c := range []struct {
		name     string
		command  topics.StartCommand
		retained bool
		standing commandContext
		want     Verdict
		reason   string
	}{
		{"the first of all", command(7, 1), false, fresh, Apply, ""},
		{"the next generation", command(7, 4), false, at(7, 3), Apply, ""},
		{"the next epoch", command(8, 1), false, at(7, 3), Apply, ""},
		{"the same again", command(7, 3), false, at(7, 3), Same, ""},
		{"the same again, stored", command(7, 3), true, with(at(7, 3), func(s *commandContext) { s.hub = hubView{} }), Same, ""},
		{"an older generation", command(7, 2), false, at(7, 3), Refuse, "epoch 7 generation 2"},
		{"an older epoch", command(6, 9), false, at(7, 3), Refuse, "epoch 6"},
		{"a jump as far as may be", command(1_000_007, 1), false, at(7, 3), Apply, ""},
		{"a jump too far", command(1_000_008, 1), false, at(7, 3), Refuse, "far above"},
		{"a jump too far at the first join", command(1_000_008, 1), false, fresh, Refuse, "far above"},
		{"generations as far ahead as may be", command(7, 1_000_003), false, at(7, 3), Apply, ""},
		{"generations too far ahead", command(7, 1_000_004), false, at(7, 3), Refuse, "generation 1000004 is far above"},
		{"an epoch far above, which the grant named", command(5_000_000, 1), false, with(at(7, 3), func(s *commandContext) { s.granted = 5_000_000 }), Apply, ""},
		{"an epoch far above the one that the grant named", command(6_000_001, 1), false, with(at(7, 3), func(s *commandContext) { s.granted = 5_000_000 }), Refuse, "far above"},
		{"an epoch below, which the grant named", command(7, 1), false, with(at(5_000_000, 3), func(s *commandContext) { s.rejoined = true }), Apply, ""},
		{"an epoch below, stored, which the grant named", command(7, 1), true, with(at(5_000_000, 3), func(s *commandContext) { s.rejoined = true }), Apply, ""},
		{"an epoch below, which the grant named, once another was taken", command(7, 1), false, at(5_000_000, 3), Refuse, "taken was 5000000"},
		{"an epoch below, which the grant did not name", command(8, 1), false, with(at(5_000_000, 3), func(s *commandContext) { s.rejoined = true }), Refuse, "taken was 5000000"},
		{"an older generation of the epoch that the grant named", command(7, 2), false, with(at(7, 3), func(s *commandContext) { s.rejoined = true }), Refuse, "generation 2"},
		{"generations anew in the next epoch", command(8, 1), false, at(7, 2_000_000), Apply, ""},
		{"epoch at its end", command(1<<64-1, 1), false, at(1<<64-1, 0), Apply, ""},
		{"another dominion", topics.StartCommand{Dominion: "d2", Domain: "me", Epoch: 8}, false, at(7, 3), Refuse, `"d2"`},
		{"not joined ever", topics.StartCommand{Domain: "me", Epoch: 8}, false, commandContext{domain: "me", dominion: "d1"}, Refuse, "dominion"},
		{"another domain", topics.StartCommand{Dominion: "d1", Domain: "you", Epoch: 8}, false, at(7, 3), Refuse, `"you"`},
		{"another major protocol", command(8, 1), false, with(at(7, 3), func(s *commandContext) { s.hub.protocol = "2.0" }), Refuse, "protocol"},
		{"another minor protocol", command(8, 1), false, with(at(7, 3), func(s *commandContext) { s.hub.protocol = "1.9" }), Apply, ""},
		{"stored, of the hub that is online", command(7, 4), true, at(7, 3), Apply, ""},
		{"stored, hub/availability unknown", command(7, 4), true, with(at(7, 3), func(s *commandContext) { s.hub.availability = "" }), Postpone, ""},
		{"stored, the hub offline", command(7, 4), true, with(at(7, 3), func(s *commandContext) { s.hub.availability = topics.Offline }), Postpone, ""},
		{"stored, hub/status unknown", command(7, 4), true, with(at(7, 3), func(s *commandContext) { s.hub = hubView{availability: topics.Online} }), Postpone, ""},
		{"stored, of a former run", command(7, 4), true, with(at(7, 3), func(s *commandContext) { s.hub.epoch = 8 }), Stale, "runs epoch 8"},
		{"stored, hub/status too, but the grant knows better", command(7, 4), true, with(at(7, 3), func(s *commandContext) { s.granted = 8 }), Stale, "runs epoch 8"},
		{"stored, signed, of the epoch that was granted", signed(7, 4), true, at(7, 3), Apply, ""},
		{"stored, signed, of the epoch that was granted, hub/status forged", signed(7, 4), true, with(at(7, 3), func(s *commandContext) { s.hub.epoch = 9 }), Apply, ""},
		{"stored, signed, of a later epoch", signed(8, 4), true, with(at(7, 3), func(s *commandContext) { s.hub.epoch = 8 }), Stale, "granted in epoch 7"},
		{"signed, of a later epoch", signed(8, 4), false, at(7, 3), Apply, ""},
		{"the first of the run, below what was obeyed", ofRun(signed(7, 1), "r2"), false, granted(at(900, 3)), Apply, ""},
		{"the first of the run, stored, below what was obeyed", ofRun(signed(7, 1), "r2"), true, granted(at(900, 3)), Apply, ""},
		{"the first of the run, of the numbers that were obeyed", ofRun(signed(7, 3), "r2"), false, granted(at(7, 3)), Apply, ""},
		{"the first of the run, of another epoch than granted", ofRun(signed(8, 1), "r2"), false, granted(at(900, 3)), Refuse, "taken was 900"},
		{"of the run, below, once one of it was taken", ofRun(signed(7, 1), "r2"), false, with(granted(at(7, 3)), func(s *commandContext) { s.last.Run = "r2" }), Refuse, "taken was 7"},
		{"of a later epoch of the run", ofRun(signed(8, 1), "r2"), false, granted(at(7, 3)), Apply, ""},
		{"of a former run, of a later epoch", ofRun(signed(8, 1), "r1"), false, granted(at(7, 3)), Refuse, "another run"},
		{"of a former run, of the epoch that was granted", ofRun(signed(7, 4), "r1"), false, granted(at(7, 3)), Refuse, "another run"},
		{"of no run", signed(8, 1), false, granted(at(7, 3)), Refuse, "another run"},
		{"of a former run, stored", ofRun(signed(7, 4), "r1"), true, granted(at(7, 3)), Stale, "another run"},
		{"of the next run, by the status of the hub", ofRun(signed(8, 1), "r3"), false, with(granted(at(7, 3)), func(s *commandContext) { s.hub.run = "r3" }), Postpone, "next run"},
		{"not signed, of another run", ofRun(command(8, 1), "r1"), false, granted(at(7, 3)), Apply, ""},
		{"stored for a former machine of the name", topics.StartCommand{Dominion: "d1", Domain: "you", Epoch: 7}, true, at(7, 3), Stale, `"you"`},
		{"stored, an older generation than taken", command(7, 2), true, at(7, 3), Stale, "taken was 7"},
		{"stored, an older epoch than taken", command(6, 9), true, at(7, 3), Stale, "taken was 7"},
		{"stored, far above", command(1_000_008, 1), true, at(7, 3), Refuse, "far above"},
	} {
		got, reason := judge(c.command, c.retained, c.standing)
		if got != c.want || !strings.Contains(reason, c.reason) {
			t.Errorf("%s: %v %q, want %v %q", c.name, got, reason, c.want, c.reason)
		}
	}
}
