package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ESPHome's own validator takes the node of the documents, and refuses one with a
// key that it does not know.
func TestHomeAssistantESPHome(t *testing.T) {
	needs(t, "python3")
	if os.Getenv(homeAssistantVariable) == "" { // what it fetches is as large
		t.Skip("run make e2e-homeassistant")
	}
	host := thisHost(t)
	packages := fetched(t, "esphome-2026.6.5", func(dir string) *exec.Cmd {
		return exec.Command("python3", "-m", "pip", "install", "--quiet", "--no-input", "--target", dir, "esphome==2026.6.5")
	})
	page, err := os.ReadFile(filepath.Join("..", "docs", "microdomain.md"))
	host.must(err)
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	node, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/microdomain.md has no node")
	}
	host.must(writeFile(filepath.Join(host.Dir, "secrets.yaml"), "wifi_ssid: home\nwifi_password: of the home\nmqtt_password: secret\n"))
	file := filepath.Join(host.Dir, "shed-lamp.yaml")
	valid := func(node string) Result {
		host.must(writeFile(file, node))
		return host.Exec([]string{"PYTHONPATH=" + packages, "PYTHONDONTWRITEBYTECODE=1"}, "python3", "-m", "esphome", "config", file)
	}
	if r := valid(node); r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, "Configuration is valid") {
		t.Errorf("the node of docs/microdomain.md: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := valid(strings.Replace(node, "birth_message:", "greeting:", 1)); r.Code == 0 {
		t.Error("a node with an unknown key is valid")
	}
}
