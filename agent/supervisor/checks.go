package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The time between the checks of a service that starts: firstCheck at first, since most are
// ready soon and others wait for them, then longer, up to slowCheck.
const (
	firstCheck = 25 * time.Millisecond
	slowCheck  = 500 * time.Millisecond
)

// check begins a health check; its result is posted.
func (s *Supervisor) check(v *service) {
	_, timeout, _ := v.checkTimes()
	kind, port, plan := v.instance.check(), v.Run.Port, v.life.plan
	address, path := s.o.Address(), ""
	if kind == httpCheck {
		path = v.Spec.Health.HTTP
	}
	post := s.poster(v.Service, v.Run.Token)
	life := v.life.ctx
	s.checking.Go(func() {
		ctx, cancel := context.WithTimeout(life, timeout)
		defer cancel()
		var err error
		switch kind {
		case httpCheck:
			err = s.checkHTTP(ctx, address, port, path)
		case tcpCheck:
			err = s.checkTCP(ctx, address, port)
		case commandCheck:
			err = s.checkCommand(ctx, plan)
		}
		switch {
		case life.Err() != nil:
			return // its life is over, or ours
		case ctx.Err() != nil && err != nil:
			post(checked{message: "no answer within " + formatDuration(timeout)})
		case err != nil:
			post(checked{message: err.Error()})
		default:
			post(checked{ok: true})
		}
	})
}

// dial reaches a port of this machine: on loopback of IPv4 or IPv6, or where a
// service listens on its network address alone, there.
func (s *Supervisor) dial(ctx context.Context, address string, port int) (net.Conn, error) {
	p := strconv.Itoa(port)
	c, err := s.o.Dial(ctx, "tcp", net.JoinHostPort("127.0.0.1", p))
	if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return c, explainRefused(err, port)
	}
	if c, other := s.o.Dial(ctx, "tcp", net.JoinHostPort("::1", p)); other == nil { // without IPv6 its error is not the one to show
		return c, nil
	}
	if address == "" || address == "127.0.0.1" || address == "::1" {
		return nil, explainRefused(err, port)
	}
	c, err = s.o.Dial(ctx, "tcp", net.JoinHostPort(address, p))
	return c, explainRefused(err, port)
}

func explainRefused(err error, port int) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens on port %d", port)
	}
	return err
}

func (s *Supervisor) checkTCP(ctx context.Context, address string, port int) error {
	c, err := s.dial(ctx, address, port)
	if err != nil {
		return err
	}
	return c.Close()
}

// checkHTTP makes one request. Status codes from 200 to 399 are healthy; redirects
// are not followed.
func (s *Supervisor) checkHTTP(ctx context.Context, address string, port int, path string) error {
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return s.dial(ctx, address, port)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	target := "http://127.0.0.1:" + strconv.Itoa(port) + "/" + strings.TrimPrefix(path, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "dominion-health")
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the method and the URL that everybody knows
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("GET %s answered %s", path, resp.Status)
	}
	return nil
}

func (s *Supervisor) checkCommand(ctx context.Context, p plan) error {
	path, err := findProgram(p.command.Dir, p.health[0])
	if err != nil {
		return err
	}
	err = s.o.Runner.Check(ctx, Command{
		Path: path, Args: p.health, Env: p.command.Env, Dir: p.command.Dir, Credential: p.command.Credential,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", p.health[0], err)
	}
	return nil
}

// adoptLife makes the resources of an adopted life: the socket that it notifies, and
// its health command with the environment that it was started with.
func (s *Supervisor) adoptLife(v *service, r record) {
	v.life.group = r.Group
	dir, version, err := s.directory(v.Service, v.commandSpec)
	if err != nil || version != "" {
		v.life.bundle = v.commandSpec.Bundle
	}
	v.life.ctx, v.life.end = context.WithCancel(s.ctx)
	full := s.complete(v.Service, v.commandSpec)
	own, err := s.users.of(v.Service)
	if err != nil {
		s.o.Log.Warn("cannot watch an adopted service", "service", v.Service, "error", err)
		return
	}
	if full.Health != nil && full.Health.Notify {
		v.life.notify, err = listenNotify(s.notifyPath(v.Service), own, s.poster(v.Service, r.Instance))
		if err != nil {
			s.o.Log.Warn("cannot hear what an adopted service notifies", "service", v.Service, "error", err)
		}
	}
	file, err := s.manifest(v.Service, v.commandSpec)
	if err != nil || file.Health == nil || len(file.Health.Command) == 0 {
		return
	}
	p := plan{spec: full, owner: own, manifest: file, commandEnvironment: v.commandSpec.Environment, health: file.Health.Command, version: r.Version, port: r.Port}
	p.command.Dir, p.command.Credential = dir, own.credential
	all, err := s.environment(v.Service, p, r.Instance, s.serviceData(v.Service))
	if err == nil {
		err = s.checkMakeExpansion(v.Service, dir, all, p.health)
	}
	if err != nil {
		s.o.Log.Warn("cannot make the environment of a health command", "service", v.Service, "error", err)
		return
	}
	p.command.Env = list(all)
	v.life.plan = p
}

func (s *Supervisor) serviceData(name string) string { return filepath.Join(s.o.DataDir, "data", name) }
