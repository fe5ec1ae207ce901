// Command sizes prints what each dependency adds to the programs given, in
// kilobytes: `make sizes`.
//
// It builds each program with its symbols and adds up the machine code by
// module. Data and the runtime's tables have few symbols of their own; they
// are shared out by code, so that the columns add up to the stripped program.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cannot measure:", err)
		os.Exit(1)
	}
}

func run(programs []string) error {
	if len(programs) == 0 {
		return errors.New("name the packages of the programs")
	}
	dir, err := os.MkdirTemp("", "sizes")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	table := make(map[string][]float64) // module → kB by program
	stripped := make([]int64, len(programs))
	for i, program := range programs {
		modules, err := modulesOf(program)
		if err != nil {
			return err
		}
		full, small := filepath.Join(dir, "full"), filepath.Join(dir, "small")
		if err := build(program, full, ""); err != nil {
			return err
		}
		if err := build(program, small, "-s -w"); err != nil {
			return err
		}
		info, err := os.Stat(small)
		if err != nil {
			return err
		}
		stripped[i] = info.Size()
		sizes, err := symbols(full, modules)
		if err != nil {
			return err
		}
		var sum float64
		for _, size := range sizes {
			sum += size
		}
		for module, size := range sizes {
			if table[module] == nil {
				table[module] = make([]float64, len(programs))
			}
			table[module][i] = size / sum * float64(info.Size()) / 1000
		}
	}
	write(os.Stdout, programs, table, stripped)
	return nil
}

func build(program, to, ldflags string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", ldflags, "-o", to, program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// modulesOf returns the module of each package that a program links; those of
// the standard library are "std".
func modulesOf(program string) (map[string]string, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Module", program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", program, err)
	}
	modules := map[string]string{"main": "dominion"} // as the linker names it
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Standard   bool
			Module     *struct {
				Path string
				Main bool
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return modules, nil
		} else if err != nil {
			return nil, err
		}
		switch {
		case p.Standard:
			modules[p.ImportPath] = "standard library"
		case p.Module.Main:
			modules[p.ImportPath] = "dominion"
		default:
			modules[p.ImportPath] = p.Module.Path
		}
	}
}

// symbols adds up the sizes of a program's code by module.
func symbols(file string, modules map[string]string) (map[string]float64, error) {
	out, err := exec.Command("go", "tool", "nm", "-size", file).Output()
	if err != nil {
		return nil, fmt.Errorf("go tool nm: %w", err)
	}
	sizes := make(map[string]float64)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		// "  4a2b60      123 T net/http.(*Server).Serve"
		f := strings.Fields(lines.Text())
		if len(f) < 4 || !strings.Contains("Tt", f[2]) {
			continue
		}
		size, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			continue
		}
		if module := modules[packageOf(strings.Join(f[3:], " "))]; module != "" {
			sizes[module] += size
		}
	}
	return sizes, nil
}

// packageOf takes the package off a symbol: what is before the first dot
// after the last slash. A generic instance counts for the package that its
// name begins with.
func packageOf(symbol string) string {
	symbol = strings.TrimPrefix(symbol, "type:.eq.")
	name, _, _ := strings.Cut(symbol, "[")
	slash := strings.LastIndex(name, "/")
	dot := strings.Index(name[slash+1:], ".")
	if dot < 0 {
		return ""
	}
	// The linker writes a dot in the last element of a path as %2e.
	return strings.ReplaceAll(name[:slash+1+dot], "%2e", ".")
}

func write(w io.Writer, programs []string, table map[string][]float64, stripped []int64) {
	sum := func(kb []float64) (s float64) {
		for _, v := range kb {
			s += v
		}
		return s
	}
	modules := make([]string, 0, len(table))
	for m := range table {
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b string) int {
		return cmp.Or(cmp.Compare(sum(table[b]), sum(table[a])), strings.Compare(a, b))
	})

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "kB of\t")
	for _, p := range programs {
		fmt.Fprintf(t, "%s\t", filepath.Base(p))
	}
	fmt.Fprintln(t)
	for _, m := range modules {
		fmt.Fprintf(t, "%s\t", m)
		for _, kb := range table[m] {
			if kb == 0 {
				fmt.Fprint(t, "-\t")
			} else {
				fmt.Fprintf(t, "%.0f\t", kb)
			}
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "the program\t")
	for _, size := range stripped {
		fmt.Fprintf(t, "%.0f\t", float64(size)/1000)
	}
	fmt.Fprintln(t)
	t.Flush()
}
