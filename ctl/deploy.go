package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// deployment is what deploy is asked for.
type deployment struct {
	// source is the directory, or oci:// and a reference.
	source  string
	service string
	version string
	// platforms are those of the programs in the directory; none: as service.toml says.
	platforms []string
	// on, traits and replicas change the definition; replicas < 0: not given.
	on, traits []string
	replicas   int
	force      bool
	wait       bool
}

// addDeploy adds deploy, which takes a directory to the machines that can run it.
func (a *app) addDeploy(root *cobra.Command) {
	d := deployment{replicas: -1}
	c := &cobra.Command{
		Use: "deploy DIRECTORY|oci://REFERENCE", Short: "Take a service to the machines that can run it", GroupID: "order",
		Long: `Pack the directory of a service, store it in the hub's registry, and define the service:
the hub has it pulled by the machines that can run it, and rolls it out instance by
instance. Where it does not get healthy it is taken back, and the exit code is 1.

What service.toml says of version, platforms, priority, traits, dependencies and replicas
counts; what is given here counts before it. A definition that is there keeps its other
keys. Without a version the content has one of its own. .dominionignore leaves files out.`,
		Args: a.check(names{"DIRECTORY"}),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.source = args[0]
			if !cmd.Flags().Changed("wait") {
				d.wait = a.interactive
			}
			timeout := a.timeout
			if !cmd.Flags().Changed("timeout") {
				timeout = deployTimeout
			}
			return a.deploy(cmd.Context(), d, timeout)
		},
	}
	f := c.Flags()
	f.StringVar(&d.service, "service", "", "the `NAME` of the service; else that of the directory")
	f.StringVar(&d.version, "version", "", "the `VERSION`, as 1.4.0")
	f.StringSliceVar(&d.platforms, "platform", nil, "the `PLATFORM` of its programs, as linux/arm/v6; may be given several times")
	f.StringSliceVar(&d.on, "on", nil, "only on this `DOMAIN`; may be given several times")
	f.StringSliceVar(&d.traits, "trait", nil, "a `TRAIT` that the domain must offer; may be given several times")
	f.IntVar(&d.replicas, "replicas", -1, "on `N` domains")
	f.BoolVar(&d.force, "force", false, "go on where a domain has a service of this name on its own disk, which runs there")
	f.BoolVar(&d.wait, "wait", false, "wait until it is healthy or taken back; the default on a terminal")
	root.AddCommand(c)
}

// deployTimeout is how long deploy waits until a service is healthy: a large bundle has its way.
const deployTimeout = 30 * time.Minute

// deploy packs, pushes, defines and waits. Nothing has changed where it fails before the
// definition.
func (a *app) deploy(ctx context.Context, d deployment, timeout time.Duration) error {
	src, err := d.read()
	if err != nil {
		return fail(ExitUsage, "", "%v", err)
	}
	s, err := a.connectFor(ctx, topics.VerbApply)
	if err != nil {
		return err
	}
	defer s.close()
	before, err := s.definitionOf(ctx, src.name, a.timeout)
	if err != nil {
		return err
	}
	if before.Source != "" {
		return fail(ExitFailed, "take it out there and reload the hub, or choose another name: --service NAME", "%s is defined in %s on the hub's machine", src.name, before.Source)
	}
	if err := s.checkLocal(ctx, src.name, d.force, a.timeout); err != nil {
		return err
	}
	version, err := a.pushSource(ctx, s, src)
	if err != nil {
		return err
	}
	text, err := src.definition(before.TOML, version, d)
	if err != nil {
		return fail(ExitFailed, "", "%v", err)
	}
	if _, err := s.ask(ctx, topics.VerbApply, topics.HubRequest{TOML: text, Base: before.Base}, a.timeout); err != nil {
		return err
	}
	doc := deployDocument{Status: topics.StatusOK, Verb: "deploy", Service: src.name, Version: version}
	if d.wait {
		if err := a.awaitVersion(ctx, s, src.name, version, timeout); err != nil {
			return err
		}
		doc.Reached = true
	}
	if a.json {
		return a.printJSON(topics.Encode(doc))
	}
	if d.wait {
		a.infof("%s %s is healthy", src.name, version)
	} else {
		a.infof("%s %s is rolled out: dominionctl why %s", src.name, version, src.name)
	}
	return nil
}

// deployDocument is the document of deploy and rollback.
type deployDocument struct {
	Status  string `json:"status"`
	Verb    string `json:"verb"`
	Service string `json:"service"`
	Version string `json:"version,omitempty"`
	Reached bool   `json:"reached,omitempty"`
}

// source is what is deployed.
type source struct {
	name string
	// dir is the directory; "" for a reference.
	dir       string
	reference string
	toml      config.Service
	version   string
	platforms []string
}

// read looks at what is to be deployed.
func (d deployment) read() (source, error) {
	src := source{version: d.version, platforms: d.platforms}
	if reference, is := strings.CutPrefix(d.source, "oci://"); is {
		src.reference = reference
		src.name = cmp.Or(d.service, nameOfReference(reference))
	} else {
		dir, err := filepath.Abs(d.source)
		if err != nil {
			return source{}, err
		}
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			return source{}, fmt.Errorf("%s is not a directory", d.source)
		}
		if err != nil {
			return source{}, err
		}
		src.dir, src.name = dir, cmp.Or(d.service, filepath.Base(dir))
		if src.toml, err = config.LoadService(filepath.Join(dir, "service.toml")); err != nil {
			return source{}, err
		}
		src.version = cmp.Or(src.version, src.toml.Version)
		if len(src.platforms) == 0 {
			src.platforms = src.toml.Platforms
		}
	}
	if !topics.ValidName(src.name) {
		return source{}, fmt.Errorf("%q is not a valid service name: give one with --service, of a-z, 0-9 and -", src.name)
	}
	if src.version != "" && !topics.ValidVersion(src.version) {
		return source{}, fmt.Errorf("%q is no version: write it as 1.4.0", src.version)
	}
	for _, p := range src.platforms {
		if !topics.ValidPlatform(p) {
			return source{}, fmt.Errorf("%q is not a platform: write it as linux/arm64 or linux/arm/v6", p)
		}
	}
	return src, nil
}

// nameOfReference returns the last part of a reference, without tag and digest.
func nameOfReference(reference string) string {
	name := reference[strings.LastIndex(reference, "/")+1:]
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// definition returns the definition of the service: the one before with another bundle, and with
// what service.toml and the command line say.
func (src source) definition(before, version string, d deployment) (string, error) {
	var file struct {
		Services map[string]map[string]any `toml:"services"`
	}
	if _, err := toml.Decode(before, &file); err != nil {
		return "", fmt.Errorf("cannot read the definition that is there: %w", err)
	}
	keys := file.Services[src.name]
	if keys == nil {
		keys = make(map[string]any)
	}
	set := func(key string, given bool, value any) {
		if given {
			keys[key] = value
		}
	}
	set("bundle", true, version)
	set("priority", src.toml.Priority != "", src.toml.Priority)
	set("traits", len(src.toml.Traits) > 0, src.toml.Traits)
	set("dependencies", len(src.toml.Dependencies) > 0, src.toml.Dependencies)
	set("replicas", src.toml.Replicas > 0, src.toml.Replicas)
	set("traits", len(d.traits) > 0, d.traits)
	set("domains", len(d.on) > 0, d.on)
	set("replicas", d.replicas >= 0, d.replicas)
	if keys["replicas"] == nil && keys["priority"] == nil && keys["domains"] == nil && keys["scale"] == nil {
		keys["replicas"] = 1
	}
	if keys["domains"] != nil && keys["priority"] == nil && keys["replicas"] == nil {
		keys["priority"] = "required"
	}
	var out strings.Builder
	if err := toml.NewEncoder(&out).Encode(map[string]any{"services": map[string]any{src.name: keys}}); err != nil {
		return "", fmt.Errorf("cannot write the definition: %w", err)
	}
	return out.String(), nil
}

// definitionOf returns the definition of a service; the zero value: there is none.
func (s *session) definitionOf(ctx context.Context, name string, timeout time.Duration) (topics.DefinitionView, error) {
	o, err := s.overview(ctx, timeout)
	if err != nil {
		return topics.DefinitionView{}, err
	}
	if _, listed := serviceIn(o, name); !listed {
		return topics.DefinitionView{}, nil
	}
	r, err := s.ask(ctx, topics.VerbDefinition, topics.HubRequest{Service: name}, timeout)
	if err != nil {
		if strings.Contains(err.Error(), "not defined any more") {
			return topics.DefinitionView{}, nil
		}
		return topics.DefinitionView{}, err
	}
	return decoded[topics.DefinitionView](s, topics.VerbDefinition, r)
}

// checkLocal refuses to deploy what domains have on their own disks, which would run there.
func (s *session) checkLocal(ctx context.Context, name string, force bool, timeout time.Duration) error {
	o, err := s.overview(ctx, timeout)
	if err != nil {
		return err
	}
	var local []string
	for _, d := range o.Domains {
		if slices.Contains(d.Catalog, name) {
			local = append(local, d.Name)
		}
	}
	if len(local) == 0 {
		return nil
	}
	if force {
		s.app.infof("%s on its own disk wins on %s", name, strings.Join(local, ", "))
		return nil
	}
	return fail(ExitFailed, "remove it there, choose another name with --service, or go on with --force: what is on the disk runs there",
		"%s is in the services_dir of %s, where it would win", name, strings.Join(local, ", "))
}

// awaitVersion waits until a service is healthy in a version, and shows the progress. It fails
// where the version is taken back.
func (a *app) awaitVersion(ctx context.Context, s *session, name, version string, timeout time.Duration) error {
	seen := false
	c := condition{
		watch: []string{s.tree.Service(topics.ServiceStatus, name)},
		check: func(o topics.Overview) (bool, string) {
			v, listed := serviceIn(o, name)
			if !listed {
				return false, "the hub does not list it yet"
			}
			seen = true
			progress := deployProgress(v)
			return allHealthy(v) && !v.Update.InProgress && onlyVersion(v, version), progress
		},
		failed: func(o topics.Overview) string {
			v, listed := serviceIn(o, name)
			if !listed || !seen || v.Update.InProgress || v.Update.Problem == "" {
				return ""
			}
			return "it was taken back: " + cleanWords(v.Update.Problem)
		},
	}
	_, err := a.await(ctx, s, c, timeout)
	return err
}

// onlyVersion reports whether all instances run a version.
func onlyVersion(v topics.Service, version string) bool {
	for _, i := range v.Instances {
		if i.Version != version {
			return false
		}
	}
	return true
}

// deployProgress describes what becomes of a deployment, with percent of what is pulled.
func deployProgress(v topics.Service) string {
	var pulls []string
	for _, i := range v.Instances {
		if i.State == topics.Fetching {
			pulls = append(pulls, fmt.Sprintf("%s %d %%", i.Domain, i.Progress))
		}
	}
	progress := serviceProgress(v)
	if len(pulls) > 0 {
		progress += "; fetching: " + strings.Join(pulls, ", ")
	}
	if v.Update.InProgress {
		progress += fmt.Sprintf("; %d of %d updated", v.Update.Updated, v.Update.Total)
	}
	return progress
}
