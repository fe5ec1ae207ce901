package makefile_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jmbarzee/dominion/agent/makefile"
)

// files are the files of a service, in memory.
type files map[string]string

func (f files) Read(name string) (string, error) {
	if text, ok := f[name]; ok {
		return text, nil
	}
	return "", errors.New("there is no such file")
}

func (f files) Glob(pattern string) ([]string, error) {
	disk := fstest.MapFS{}
	for name := range f {
		disk[name] = &fstest.MapFile{}
	}
	return disk.Glob(pattern)
}

// cases are Makefiles, and what is reported of the variable X. where is a part of
// it; "": make hands X on and does nothing with it.
var cases = []struct {
	name, text, where string
	unclear           bool
	more              files
}{
	{name: "the environment", text: "run:\n\t@echo \"$$X\" $${X} $${X:-a}\n"},
	{name: "parentheses", text: "run:\n\t@echo $(X)\n", where: "Makefile:2"},
	{name: "braces", text: "run:\n\t@echo ${X}\n", where: "Makefile:2"},
	{name: "one letter", text: "run:\n\t@echo $X\n", where: "Makefile:2"},
	{name: "spaces", text: "run:\n\t@echo $( X )\n", where: "Makefile:2"},
	{name: "three dollars", text: "run:\n\t@echo $$$(X)\n", where: "Makefile:2"},
	{name: "escaped", text: "run:\n\t@echo $$(echo $$X)\n"},
	{name: "another one", text: "run:\n\t@echo $(XY) $(Y)\n"},
	{name: "substitution", text: "run:\n\t@echo $(X:.c=.o)\n", where: "Makefile:2"},
	{name: "suffix", text: "run:\n\t@echo $(addsuffix .o,$(X))\n", where: "Makefile:2"},
	{name: "in a condition", text: "ifeq ($(X),a)\nendif\nrun:\n", where: "Makefile:1"},
	{name: "ifdef", text: "ifdef X\nendif\nrun:\n"},
	{name: "comment", text: "# $(X) is not for us\n  # $(X)\nrun:\n"},
	{name: "comment in a recipe", text: "run:\n\t# $(X)\n", where: "Makefile:2"},
	{name: "comment that continues a recipe", text: "run:\n\t@echo a \\\n# $(X)\n", where: "Makefile:3"},
	{name: "comment in a define", text: "define cmd\n# $(X)\nendef\nrun:\n\t$(cmd)\n", where: "Makefile:2"},
	{name: "define with a modifier", text: "override define cmd\n# $(X)\nendef\nrun:\n\t$(cmd)\n", where: "Makefile:2"},
	{name: "endef that continues a line", text: "define cmd\necho a \\\nendef\n# $(X)\nendef\nrun:\n\t$(cmd)\n", where: "Makefile:4"},
	{name: "Windows", text: "# $(X)\r\nrun:\r\n\t@echo $(X)\r\n", where: "Makefile:3"},
	{name: "assigned", text: "A = $(X)\nrun:\n\t@echo $(A)\n", where: "Makefile:1"},
	{name: "assigned at once", text: "A := $(X)\nrun:\n", where: "Makefile:1"},
	{name: "added to", text: "X += a\nrun:\n\t@echo \"$$X\"\n", where: "Makefile:1"},
	{name: "added to for a target", text: "run: X += a\nrun:\n\t@echo \"$$X\"\n", where: "Makefile:1"},
	{name: "added to by define", text: "define X +=\na\nendef\nrun:\n\t@echo \"$$X\"\n", where: "Makefile:1"},
	{name: "default", text: "X ?= a\nrun:\n\t@echo \"$$X\"\n"},
	{name: "exported", text: "export X\nrun:\n\t@echo \"$$X\"\n"},
	{name: "all exported", text: "export\nrun:\n\t@echo \"$$X\"\n"},
	{name: "called", text: "run:\n\t@echo $(call X,a)\n", where: "Makefile:2"},
	{name: "its value", text: "run:\n\t@echo $(value X)\n", where: "Makefile:2"},
	{name: "its origin", text: "run:\n\t@echo $(origin X)\n"},
	{name: "in shell", text: "A := $(shell echo $(X))\nrun:\n", where: "Makefile:1"},
	{name: "prerequisite", text: "run: $(X)\n", where: "Makefile:1"},
	{name: "computed", text: "N = X\nrun:\n\t@echo $($(N))\n", where: "names a variable by another one", unclear: true},
	{name: "foreach", text: "run:\n\t@echo $(foreach v,X,$($(v)))\n", where: "names a variable by another one", unclear: true},
	{name: "computed call", text: "N = X\nrun:\n\t@echo $(call $(N))\n", where: "names a variable by another one", unclear: true},
	{name: "computed addition", text: "N = X\n$(N) += a\nrun:\n\t@echo \"$$X\"\n", where: "adds to a variable", unclear: true},
	{name: "eval", text: "$(eval A := $$(X))\nrun:\n", where: "by eval", unclear: true},
	{name: "second expansion", text: ".SECONDEXPANSION:\nrun: $$(X)\n", where: ".SECONDEXPANSION", unclear: true},
	{name: "make again", text: "run:\n\t@$(MAKE) -f sub.mk\n", where: "runs make again", unclear: true, more: files{"sub.mk": "all:\n\t@echo $(X)\n"}},
	{name: "make by its name", text: "run:\n\t@cd . && make -f sub.mk\n", where: "runs make again", unclear: true, more: files{"sub.mk": "all:\n\t@echo $(X)\n"}},
	{name: "made up of words", text: "run:\n\t@echo make sure that makefiles are cmake files\n"},
	{name: "included", text: "include a.mk\nrun:\n", where: "a.mk:1", more: files{"a.mk": "A := $(X)\n"}},
	{name: "included from there", text: "-include a.mk\nrun:\n", where: "b.mk:1", more: files{"a.mk": "include b.mk\n", "b.mk": "A := $(X)\n"}},
	{name: "included by a pattern", text: "sinclude *.mk\nrun:\n", where: "b.mk:1", more: files{"b.mk": "A := $(X)\n"}},
	{name: "included over two lines", text: "include \\\n a.mk # b.mk\nrun:\n", where: "a.mk:1", more: files{"a.mk": "A := $(X)\n"}},
	{name: "included and harmless", text: "include a.mk\nrun:\n", more: files{"a.mk": "A := a\n"}},
	{name: "included by a variable", text: "F = a.mk\ninclude $(F)\nrun:\n", where: "includes $(F)", unclear: true, more: files{"a.mk": "A := $(X)\n"}},
	{name: "included and not there", text: "-include a.mk\nrun:\n", where: "a.mk cannot be read", unclear: true},
	{name: "without an end", text: "run:\n\t@echo $(X\n", where: "without an end", unclear: true},
	{name: "a dollar at the end", text: "run:\n\t@echo $", where: ""},
}

func TestExpands(t *testing.T) {
	for _, tt := range cases {
		f := files{"Makefile": tt.text}
		for name, text := range tt.more {
			f[name] = text
		}
		where, unclear := makefile.Read(f, "Makefile").Expands("X")
		if unclear != tt.unclear || tt.where == "" && where != "" || !strings.Contains(where, tt.where) {
			t.Errorf("%s: %q, unclear %v; want %q, %v", tt.name, where, unclear, tt.where, tt.unclear)
		}
	}
	if where, _ := makefile.Read(files{"Makefile": "run: a.o\n"}, "Makefile").Expands("CFLAGS"); where == "" {
		t.Error("a variable of make's own rules is not expanded")
	}
}

// TestMakeItself asks make: what runs a value must have been noticed, and what
// is reported as passed on must arrive byte for byte.
func TestMakeItself(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make here")
	}
	ran := 0
	for _, tt := range cases {
		dir := t.TempDir()
		for name, text := range tt.more {
			write(t, filepath.Join(dir, name), text)
		}
		write(t, filepath.Join(dir, "Makefile"), tt.text+"\nseen:\n\t@printf %s \"$$X\" > seen\n")
		const value = "$(shell touch F)$$HOME`touch F`\n\\#"
		for _, target := range []string{"run", "seen"} {
			c := exec.Command("make", "-C", dir, target)
			c.Env = append(os.Environ(), "X="+value)
			_ = c.Run() // what expands it may well be nonsense then
		}
		_, err := os.Stat(filepath.Join(dir, "F"))
		got, _ := os.ReadFile(filepath.Join(dir, "seen"))
		if err == nil {
			ran++
		}
		if tt.where == "" && (err == nil || string(got) != value && tt.name != "a dollar at the end") {
			t.Errorf("%s: make expanded X (ran: %v), which arrived as %q", tt.name, err == nil, got)
		}
	}
	if ran < 15 {
		t.Errorf("make ran the value in %d cases alone: does this test see it?", ran)
	}
}

func TestTooManyFiles(t *testing.T) {
	f := files{"Makefile": ""}
	for n := range 100 {
		f["Makefile"] += fmt.Sprintf("include %d.mk\n", n)
		f[fmt.Sprintf("%d.mk", n)] = "A = a\n"
	}
	if where, unclear := makefile.Read(f, "Makefile").Expands("X"); !unclear || !strings.Contains(where, "too many files") {
		t.Errorf("%q, %v", where, unclear)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzRead: whatever a Makefile holds, reading it ends, and a plain reference
// that was not there before is found where it is added in front.
func FuzzRead(f *testing.F) {
	for _, tt := range cases {
		f.Add(tt.text)
	}
	f.Add(strings.Repeat("$(", 50))
	f.Add(strings.Repeat("+=", 50))
	f.Fuzz(func(t *testing.T, text string) {
		makefile.Read(files{"Makefile": text}, "Makefile").Expands("X")
		where, unclear := makefile.Read(files{"Makefile": "A := $(X)\n" + text}, "Makefile").Expands("X")
		if where == "" || unclear {
			t.Errorf("%q, %v", where, unclear)
		}
	})
}
