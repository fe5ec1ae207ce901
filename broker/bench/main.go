package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
)

func main() { os.Exit(run()) }

// run parses the flags, measures each target, and returns the exit code.
func run() int {
	var (
		peer     = flag.String("serve", "", "serve as the `PEER` mochi or nats (used by the command itself)")
		addr     = flag.String("addr", "", "where to")
		dir      = flag.String("dir", "", "with what folder")
		dominion = flag.String("dominion", "bin/dominion", "the `PROGRAM` to measure")
		only     = flag.String("only", "", "measure only targets whose name holds `TEXT`")
		which    = flag.String("figures", "", "measure only figures whose name holds `TEXT`; a figure alone has a fresh broker")
		rounds   = flag.Int("rounds", 3, "how often; the median counts")
		seconds  = flag.Float64("seconds", 3, "how long a latency is measured")
		scale    = flag.Float64("scale", 1, "share of the full load")
	)
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	if *peer != "" {
		if err := serve(ctx, *peer, *addr, *dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	var names []string
	all := slices.DeleteFunc(figures(*seconds, *scale), func(f figure) bool { return !strings.Contains(f.name, *which) })
	results := make(map[string][]float64) // by target: a median a figure, NaN where it failed
	for _, t := range targets(*dominion) {
		if !strings.Contains(t.name, *only) {
			continue
		}
		medians, err := measure(ctx, t, all, *rounds)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s left out: %v\n", t.name, err)
			continue
		}
		names = append(names, t.name)
		results[t.name] = medians
	}
	table(names, all, results)
	return 0
}

// measure returns the median of each figure over some rounds, each with a new broker.
func measure(ctx context.Context, t target, all []figure, rounds int) ([]float64, error) {
	values := make([][]float64, len(all))
	for range rounds {
		r, err := t.place()
		if err == nil {
			err = r.launch(t)
		}
		if err != nil {
			return nil, err
		}
		for i, f := range all {
			if ctx.Err() != nil {
				break
			}
			v, err := f.measure(t, r)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %s: %v\n", t.name, f.name, err)
				v = math.NaN()
			}
			values[i] = append(values[i], v)
		}
		r.stop()
		r.remove()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	medians := make([]float64, len(all))
	for i, v := range values {
		slices.Sort(v) // NaN first: half of the rounds failed if it is the median
		medians[i] = v[len(v)/2]
	}
	return medians, nil
}

// measure runs a figure on the broker of its round, or on one of its own.
func (f figure) measure(t target, r *running) (float64, error) {
	if !f.fresh {
		return f.run(t, r)
	}
	own, err := t.place()
	if err != nil {
		return 0, err
	}
	defer own.remove()
	if err := own.launch(t); err != nil {
		return 0, err
	}
	defer own.stop()
	return f.run(t, own)
}

// table prints a line for each figure, with the ratio to the first target in
// parentheses: above 1 the first is better. What could not be measured is not printed;
// the reason is on stderr.
func table(names []string, all []figure, results map[string][]float64) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprint(w, "figure\tunit\t")
	for _, n := range names {
		fmt.Fprint(w, n, "\t")
	}
	fmt.Fprintln(w)
	for i, f := range all {
		if !slices.ContainsFunc(names, func(n string) bool { return !math.IsNaN(results[n][i]) }) {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t", f.name, f.unit)
		first := results[names[0]][i]
		for j, n := range names {
			v := results[n][i]
			switch {
			case math.IsNaN(v):
				fmt.Fprint(w, "–\t")
			case j == 0, math.IsNaN(first), first == 0, v == 0:
				fmt.Fprintf(w, "%s\t", short(v))
			case f.lower:
				fmt.Fprintf(w, "%s (%.2f×)\t", short(v), v/first)
			default:
				fmt.Fprintf(w, "%s (%.2f×)\t", short(v), first/v)
			}
		}
		fmt.Fprintln(w)
	}
}

// short formats a value with about three digits.
func short(v float64) string {
	switch {
	case v >= 10_000:
		return fmt.Sprintf("%.0fk", v/1000)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
