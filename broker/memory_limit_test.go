package broker

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	const meminfo = "MemTotal:        1024000 kB\nMemFree:          100 kB\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  int
	}{
		"nothing can be read": {nil, 0},
		"the machine":         {map[string]string{"proc/meminfo": meminfo}, 262_144_000},
		"a control group": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/dominion.service\n",
			"sys/fs/cgroup/system.slice/dominion.service/memory.max": "400000000\n",
		}, 100_000_000},
		"one without a limit, in one that has": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/dominion.service\n",
			"sys/fs/cgroup/system.slice/dominion.service/memory.max": "max\n",
			"sys/fs/cgroup/system.slice/memory.max":                  "200000000\n",
		}, 50_000_000},
		"larger than the machine": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "9000000000000\n",
		}, 262_144_000},
		"version 1": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "3:cpu:/x\n2:memory:/docker/a\n",
			"sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "300000000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":          "9223372036854771712\n",
		}, 75_000_000},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			path := filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := memoryLimit(root); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
