package e2e

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A domain decides how far it trusts its dominion: "local" gives a service the variables alone
// that its own service.toml declares, "environment" any variable and no secret, and "deploy",
// the default after an adoption, secrets too. The hub knows and places by it.
func TestAccept(t *testing.T) {
	home := onEmbedded(t)
	home.Configure("[identity]\nadoption = \"open\"\n" +
		service("declared", `priority = "required"`, `domains = ["local"]`, `environment = { COLOUR = "blue" }`) +
		service("undeclared", `priority = "required"`, `domains = ["local"]`, `environment = { LD_PRELOAD = "/tmp/x.so" }`) +
		service("any", `priority = "required"`, `domains = ["any"]`, `environment = { LD_LIBRARY_PATH = "/tmp" }`) +
		service("kept", `priority = "required"`, `domains = ["any"]`, `environment = { KEY = "secret:mqtt-password" }`) +
		service("given", `priority = "required"`, `domains = ["usual"]`, `environment = { KEY = "secret:mqtt-password" }`))
	local, environment, usual := home.Domain("local"), home.Domain("any"), home.Domain("usual")
	local.Configure(nil, "accept = \"local\"\n")
	environment.Configure(nil, "accept = \"environment\"\n")
	for _, name := range []string{"declared", "undeclared"} {
		local.InstallShell(name)
		local.Write(name, "service.toml", "variables = [\"COLOUR\"]\n")
	}
	environment.InstallShell("any")
	environment.InstallShell("kept")
	usual.InstallShell("given")
	_, _, o := home.Up(local, environment, usual)
	home.setSecret("a value")

	o.Until("what is accepted runs", func(v View) bool {
		return v.Instance("local", "declared").State == topics.Running && v.Instance("any", "any").State == topics.Running &&
			v.Instance("usual", "given").State == topics.Running
	})
	o.Until("the undeclared variable is refused", func(v View) bool {
		return strings.Contains(v.Instance("local", "undeclared").Message, `variables = ["LD_PRELOAD"]`)
	})
	o.Until("the secret is not given", func(v View) bool {
		return strings.Contains(v.Service("kept").Reason, "any accepts no secrets")
	})
	for name, want := range map[string]string{"local": "local", "any": "environment", "usual": "deploy"} {
		v := home.domains()[name]
		if v.Accept != want || !strings.HasPrefix(v.Platform, "linux/") || o.Latest().Domain(name).Accept != want {
			t.Errorf("%s accepts %q on %q, want %q", name, v.Accept, v.Platform, want)
		}
	}
	if r := home.Ctl("describe", "usual"); !strings.Contains(r.Stdout, "deploy") || !strings.Contains(r.Stdout, o.Latest().Domain("usual").Platform) {
		t.Errorf("describe: %+v", r)
	}
	for _, name := range []string{"undeclared", "kept"} {
		if starts := home.Journal.Of(t, "start", name); len(starts) != 0 {
			t.Errorf("%s was started: %v", name, starts)
		}
	}
}
