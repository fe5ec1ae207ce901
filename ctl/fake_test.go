package ctl

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/internal/mailbox"
	"github.com/jmbarzee/dominion/topics"
)

// fake is a hub with agents, on a real broker, that answers from files: what
// a script does not write under hub/ comes from testdata/hub. It decides
// nothing, so a test sees what dominionctl makes of an answer.
//
//	hub/<verb>.json            the data of the answer
//	hub/<verb>.error           the error of the answer
//	hub/<verb>-<action>.error  that of the answer to one action alone
//	hub/<verb>.silent          no answer
//	hub/after-<verb>/<n>.json  after that order: what is different at the nth question of status
//	agent/<domain>/<service>.log, .error, .silent
type fake struct {
	// control is the path of its control socket.
	control string
	broker  *broker.Broker
	tree    topics.Tree
	dir     string
	box     *mailbox.Box[topics.Message]
	stop    chan struct{}
	done    chan struct{}

	mu    sync.Mutex
	asked []asked
	news  chan struct{} // closed and made anew with each question

	// of the goroutine alone
	overview topics.Overview
	after    string // directory of changes to come
	step     int
}

// asked is a question or an order that arrived.
type asked struct {
	what    string // verb, or "domain/action"
	payload string
}

func startFake(dir, prefix string, cfg broker.Config) (*fake, error) {
	cfg.Prefix = cmp.Or(prefix, topics.DefaultPrefix)
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	b, err := broker.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := b.Listen(); err != nil {
		return nil, err
	}
	f := &fake{
		control: filepath.Join(dir, "control"),
		broker:  b, tree: topics.NewTree(prefix), dir: dir,
		box:  mailbox.New[topics.Message](1000),
		stop: make(chan struct{}), done: make(chan struct{}), news: make(chan struct{}),
	}
	for _, filter := range []string{f.tree.Filter(topics.Request)} {
		if err := b.Subscribe(filter, f.box.Put); err != nil {
			return nil, err
		}
	}
	b.HandlePrivate(func(m topics.Message, answer func(topics.Message)) { go f.handle(m, answer) })
	if err := b.ListenControl(f.control); err != nil {
		return nil, err
	}
	b.Publish(topics.Message{Topic: f.tree.Hub(topics.HubStatus), Payload: topics.Encode(topics.Hub{ID: "hub", Name: "home", Version: "1.0.0", Protocol: topics.Protocol, Control: f.control}), QoS: 1, Retain: true})
	f.read("status.json", &f.overview)
	go f.run()
	f.available(topics.Online)
	return f, nil
}

func (f *fake) close() error {
	close(f.stop)
	<-f.done
	return f.broker.Stop(context.Background())
}

func (f *fake) address() string { return f.broker.Listeners()[0].Addr.String() }

func (f *fake) available(word string) {
	f.broker.Publish(f.tree.Message(topics.Address{Kind: topics.HubAvailability}, []byte(word)))
}

func (f *fake) run() {
	defer close(f.done)
	for {
		select {
		case <-f.stop:
			return
		case <-f.box.Ready():
		}
		all, _ := f.box.Take()
		for _, m := range all {
			f.handle(m, f.broker.Publish)
		}
	}
}

func (f *fake) handle(m topics.Message, publish func(topics.Message)) {
	a, ok := f.tree.Parse(m.Topic)
	if !ok {
		return
	}
	ask, err := topics.Decode[topics.HubRequest](m.Topic, m.Payload)
	if err != nil {
		return
	}
	if a.Verb == topics.VerbLogs {
		f.note(ask.Domain+"/"+a.Verb, m.Payload)
		f.logs(ask)
		return
	}
	f.answer(a.Verb, ask, publish)
	f.note(a.Verb, m.Payload)
}

func (f *fake) answer(verb string, ask topics.HubRequest, publish func(topics.Message)) {
	if f.exists(verb + ".silent") {
		return
	}
	reply := topics.Accept(ask.Transaction, nil)
	refusal, err := f.open(verb + ".error")
	if err != nil && ask.Action != "" {
		refusal, err = f.open(verb + "-" + ask.Action + ".error")
	}
	if once := filepath.Join(f.dir, "hub", verb+".once"); err != nil {
		if refusal, err = os.ReadFile(once); err == nil {
			refusal, err = bytes.TrimSpace(refusal), os.Remove(once)
		}
	}
	if err == nil {
		reply = topics.Refuse(ask.Transaction, errors.New(string(refusal)))
	} else if f.exists("after-" + verb) {
		f.after, f.step = "after-"+verb, 0
	}
	switch verb {
	case topics.VerbStatus:
		f.step++
		var change topics.Overview
		if f.after != "" && f.read(fmt.Sprintf("%s/%d.json", f.after, f.step), &change) {
			f.change(change)
		}
		reply.Data = topics.Encode(f.overview)
	case topics.VerbDomains:
		reply.Data = topics.Encode(f.overview.Domains)
	case topics.VerbServices:
		reply.Data = topics.Encode(f.overview.Services)
	}
	if b, err := f.open(verb + ".json"); err == nil && verb != topics.VerbStatus {
		reply.Data = b
	}
	_, response := f.tree.Request(verb)
	// somebody else's answer comes on the same topic
	f.broker.Publish(topics.Message{Topic: response, QoS: 1, Payload: topics.Encode(topics.Refuse("not-yours", errors.New("not for you")))})
	publish(topics.Message{Topic: response, QoS: 1, Payload: topics.Encode(reply)})
}

// change replaces the services and domains of the same names.
func (f *fake) change(c topics.Overview) {
	for _, v := range c.Services {
		f.overview.Services = slices.DeleteFunc(f.overview.Services, func(o topics.Service) bool { return o.Service == v.Service })
		f.overview.Services = append(f.overview.Services, v)
		f.broker.Publish(f.tree.Message(topics.Address{Kind: topics.ServiceStatus, Service: v.Service}, topics.Encode(v)))
	}
	for _, d := range c.Domains {
		f.overview.Domains = slices.DeleteFunc(f.overview.Domains, func(o topics.DomainView) bool { return o.Name == d.Name })
		f.overview.Domains = append(f.overview.Domains, d)
	}
}

// logs answers as the hub does with the answer of an agent.
func (f *fake) logs(c topics.HubRequest) {
	file := filepath.Join(f.dir, "agent", c.Domain, c.Service)
	if _, err := os.Stat(file + ".silent"); err == nil {
		return
	}
	var reply topics.Reply
	if b, err := os.ReadFile(file + ".log"); err == nil {
		var lines []topics.LogLine
		if err := json.Unmarshal(b, &lines); err != nil {
			reply = topics.Refuse(c.Transaction, err)
		} else {
			lines = lines[max(0, len(lines)-cmp.Or(c.Lines, 100)):]
			reply = topics.Accept(c.Transaction, topics.LogLines{Lines: lines})
		}
	} else if b, err := os.ReadFile(file + ".error"); err == nil {
		reply = topics.Refuse(c.Transaction, errors.New(string(b)))
	} else {
		return // no such agent
	}
	at := topics.Address{Kind: topics.Response, Verb: topics.VerbLogs}
	f.broker.Publish(f.tree.Message(at, topics.Encode(topics.Refuse("not-yours", errors.New("not for you")))))
	f.broker.Publish(f.tree.Message(at, topics.Encode(reply)))
}

func (f *fake) open(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(f.dir, "hub", name))
	if err != nil {
		b, err = os.ReadFile(filepath.Join(testdata, "hub", name))
	}
	return b, err
}

func (f *fake) exists(name string) bool {
	_, err := os.Stat(filepath.Join(f.dir, "hub", name))
	return err == nil
}

func (f *fake) read(name string, into any) bool {
	b, err := f.open(name)
	return err == nil && json.Unmarshal(b, into) == nil
}

func (f *fake) note(what string, payload []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, asked{what, string(payload)})
	close(f.news)
	f.news = make(chan struct{})
}

// saw waits until something was asked n times, and returns the last payload.
func (f *fake) saw(what string, n int) (string, error) {
	late := time.After(time.Minute)
	for {
		f.mu.Lock()
		var payloads []string
		for _, a := range f.asked {
			if a.what == what {
				payloads = append(payloads, a.payload)
			}
		}
		news := f.news
		f.mu.Unlock()
		if len(payloads) >= n {
			return payloads[len(payloads)-1], nil
		}
		select {
		case <-news:
		case <-late:
			return "", fmt.Errorf("the hub was asked %q %d times, not %d", what, len(payloads), n)
		}
	}
}
