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

// measure returns the median of each figure over some rounds, each on a fresh
// broker.
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
			v, err := f.run(t, r)
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

// table prints a line a figure, with the ratio to the first target behind each
// other one: above 1 the first is better.
func table(names []string, all []figure, results map[string][]float64) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprint(w, "figure\tunit\t")
	for _, n := range names {
		fmt.Fprint(w, n, "\t")
	}
	fmt.Fprintln(w)
	for i, f := range all {
		fmt.Fprintf(w, "%s\t%s\t", f.name, f.unit)
		first := results[names[0]][i]
		for j, n := range names {
			v := results[n][i]
			switch {
			case math.IsNaN(v):
				fmt.Fprint(w, "failed\t")
			case j == 0:
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
