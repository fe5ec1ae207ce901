package hub

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/rotation"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// newRotation returns how far a change of the authority has come.
func (h *Hub) newRotation() *rotation.Rotation {
	var a keys.Authority
	if h.keys != nil {
		a = h.keys.DescribeAuthority()
	}
	return rotation.New(h.store.Rotation(), a.Key, a.Next, time.Now())
}

// authority answers with the authority, or checks an action that goes on beside the loop.
func (h *Hub) authority(ask asked, _ time.Time) (any, error) {
	if h.keys == nil {
		return nil, errNoKeys
	}
	switch ask.Action {
	case "", "show":
		return h.viewAuthority(), nil
	case "rotate":
		return nil, nil
	case "export", "offline":
		if ask.user != "" {
			return nil, errors.New("the authority's key leaves the hub's machine by the control socket alone: run dominionctl there, without --hub and --user")
		}
		return nil, nil
	}
	return nil, fmt.Errorf(`"action" is rotate, export or offline, not %.40q`, ask.Action)
}

// answersAuthorityLater reports whether an accepted request goes on beside the loop.
func (h *Hub) answersAuthorityLater(verb string, ask topics.HubRequest, to later) bool {
	if verb != topics.VerbAuthority {
		return false
	}
	switch ask.Action {
	case "rotate":
		h.work.Put(func() func(time.Time) {
			err := h.keys.BeginRotation(time.Now())
			return func(now time.Time) { h.rotationBegun(ask.Compromised, to, err, now) }
		})
	case "export":
		h.work.Put(func() func(time.Time) {
			key, err := h.keys.ExportAuthority()
			return func(time.Time) { h.replyAuthority(to, err, string(key)) }
		})
	case "offline":
		h.work.Put(func() func(time.Time) {
			err := h.takeOffline(ask.Key)
			return func(time.Time) {
				h.publishCertificate()
				h.replyAuthority(to, err, "")
			}
		})
	default:
		return false
	}
	return true
}

// takeOffline removes the authority's key, which was stored elsewhere. It runs beside the
// loop.
func (h *Hub) takeOffline(key string) error {
	if present := h.keys.DescribeAuthority().Key; key != present {
		return fmt.Errorf("the authority's key is %s, not %.80q: its key was not removed", identity.Label(present), key)
	}
	if err := h.keys.TakeOffline(time.Now()); err != nil {
		return err
	}
	h.log.Warn("the authority's key is not on this machine any more: an intermediate signs in its place")
	return nil
}

// replyAuthority answers with the authority; key is of the answer to export.
func (h *Hub) replyAuthority(to later, err error, key string) {
	if err != nil {
		to.reply(nil, err)
		return
	}
	v := h.viewAuthority()
	v.PrivateKey = key
	to.reply(v, nil)
}

// viewAuthority returns the authority, and how far its change has come.
func (h *Hub) viewAuthority() topics.AuthorityView {
	a := h.keys.DescribeAuthority()
	r := h.adoption.rotation
	v := topics.AuthorityView{
		Key: a.Key, Expires: topics.At(a.Expires), Offline: a.Offline, Next: a.Next,
		Has: []string{}, Missing: []string{}, Behind: []string{},
	}
	if a.Next != "" {
		v.Compromised = r.Compromised()
		if since := r.Since(); !since.IsZero() {
			v.Since = topics.At(since)
		}
	}
	for _, id := range h.established() {
		name := h.adoption.Members()[id].Name
		if r.Behind(id) {
			v.Behind = append(v.Behind, name)
		}
		switch {
		case a.Next == "":
		case r.Has(id):
			v.Has = append(v.Has, name)
		default:
			v.Missing = append(v.Missing, name)
		}
	}
	return v
}

// established returns the ids of the domains that are adopted and have confirmed it, by name.
func (h *Hub) established() []string {
	var ids []string
	members := h.adoption.Members()
	for id, m := range members {
		if m.Words.Established() {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return strings.Compare(members[a].Name, members[b].Name) })
	return ids
}

// rotationBegun takes that the next authority is in the key list.
func (h *Hub) rotationBegun(compromised bool, to later, err error, now time.Time) {
	if err == nil {
		h.adoption.rotation.Begin(h.keys.DescribeAuthority().Next, compromised, now)
		h.storeRotation()
		h.publishCertificate()
		h.log.Warn("the authority is being replaced", "compromised", compromised)
	}
	h.replyAuthority(to, err, "")
	h.stepRotation(now)
}

// acknowledged takes that a domain has stored an authority. An acknowledgement has no number: one of
// an earlier change that is replayed during another one does not undo what the domain has said since.
func (h *Hub) acknowledged(ask topics.HubRequest, user string, now time.Time) {
	if next := h.adoption.rotation.Successor(); next == "" || ask.Authority == next {
		h.hasAuthority(ask, user, now)
	}
}

// hasAuthority takes which authority a domain has stored last.
func (h *Hub) hasAuthority(ask topics.HubRequest, user string, now time.Time) {
	if h.keys == nil || ask.Authority == "" {
		return
	}
	if m, err := h.adoption.Renewal(ask, user, h.actsForAll(user)); err != nil || m.ID == "" {
		return
	}
	if h.adoption.rotation.Stored(ask.ID, ask.Authority, h.keys.DescribeAuthority().Key) {
		h.storeRotation()
		h.stepRotation(now)
	}
}

// storeRotation stores how far the change has come.
func (h *Hub) storeRotation() {
	if state, changed := h.adoption.rotation.State(); changed {
		h.store.Change(func(s *store.State) { s.Rotation = state })
	}
}

// stepRotation has the next authority used when it is due.
func (h *Hub) stepRotation(now time.Time) {
	r := h.adoption.rotation
	if r.Successor() == "" || h.keys == nil {
		return
	}
	if a := h.keys.DescribeAuthority(); a.Next == "" && a.Key == r.Successor() { // before a restart
		h.authorityUsed(now)
		return
	}
	online := func(id string) bool {
		d := h.fleet.WithID(id)
		return d != nil && h.fleet.Beats(d, now)
	}
	if !r.Due(h.established(), online, now) {
		h.dueUnlessZero(r.Next())
		return
	}
	compromised := r.Compromised()
	h.work.Put(func() func(time.Time) {
		err := h.keys.UseNext(compromised, time.Now())
		return func(now time.Time) {
			if err != nil {
				h.events.Add(topics.Event{Type: topics.HubProblem, Message: "the next authority could not be used, which is tried again: " + err.Error()})
				r.Failed(now)
				h.dueUnlessZero(r.Next())
				return
			}
			if compromised && h.broker != nil {
				h.broker.KickIssued()
			}
			h.authorityUsed(now)
		}
	})
}

// authorityUsed takes that another authority and another key of the hub are used: all that
// was signed by the former key is signed again.
func (h *Hub) authorityUsed(now time.Time) {
	h.keys.SignByNew()
	behind := h.adoption.rotation.Used(h.established())
	h.storeRotation()
	ended := h.adoption.SetAuthority(h.keys.RootHash(), now)
	h.publishCertificate()
	h.views.presence.Reset()
	for d := range h.fleet.All() {
		if h.signsFor(d) {
			d.Ordered.Encoded = ""
		}
	}
	h.changed.TouchAll()
	text := fmt.Sprintf("the authority was replaced: its key is %s now, the hub's %s", identity.Label(h.keys.DescribeAuthority().Key), identity.Label(h.keys.KeyHash()))
	if len(behind) > 0 {
		text += "; " + h.namesOf(behind) + " had not stored it: " + needCode
	}
	if ended > 0 {
		text += fmt.Sprintf("; %d tokens that were not used yet have ended: create others", ended)
	}
	h.events.Add(topics.Event{Type: topics.KeyRotated, Message: text})
}

// needCode is the remedy of a domain that was away when the authority was replaced.
const needCode = "`domain code` there, which shows one once it has been without this hub for `isolation` (10s by default), then `dominionctl adopt NAME CODE`"

// namesOf returns the names of adopted domains.
func (h *Hub) namesOf(ids []string) string {
	var names []string
	for _, id := range ids {
		names = append(names, h.adoption.Members()[id].Name)
	}
	return strings.Join(names, ", ")
}

// rotationProblems returns which domains a change of the authority waits for, and which it
// went past.
func (h *Hub) rotationProblems() (all []string) {
	r := h.adoption.rotation
	if h.keys == nil || r.Successor() == "" && !r.AnyBehind() {
		return nil
	}
	v := h.viewAuthority()
	if r.Interrupted() {
		all = append(all, "a change of the authority was begun before hub.json was lost or restored: adopt all domains, then `dominionctl authority rotate` goes on with it")
	} else if len(v.Missing) > 0 {
		all = append(all, "the authority is being replaced, which waits for "+strings.Join(v.Missing, ", ")+": bring them back, or `dominionctl forget` them, or `dominionctl authority rotate --compromised`")
	}
	if len(v.Behind) > 0 {
		all = append(all, strings.Join(v.Behind, ", ")+" had not stored the authority when it was replaced: "+needCode)
	}
	return all
}
