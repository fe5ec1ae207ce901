// Package metrics writes figures as Prometheus reads them: the text exposition
// format 0.0.4. It owns the form alone; the metrics are the hub's.
package metrics

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// ContentType is that of the format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// The types of a family.
const (
	Counter = "counter"
	Gauge   = "gauge"
)

// Sample is one figure; Labels are names and values in turns.
type Sample struct {
	Labels []string
	Value  float64
}

// Family is the samples of one name.
type Family struct {
	Name, Type, Help string
	Samples          []Sample
}

// One is a family of one sample without labels.
func One(name, kind, help string, value float64) Family {
	return Family{name, kind, help, []Sample{{Value: value}}}
}

// Add adds a sample; labels are names and values in turns.
func (f *Family) Add(value float64, labels ...string) {
	f.Samples = append(f.Samples, Sample{labels, value})
}

// Write writes families; one without samples is left out.
func Write(w io.Writer, all []Family) error {
	b := bufio.NewWriter(w)
	for _, f := range all {
		if len(f.Samples) == 0 {
			continue
		}
		b.WriteString("# HELP " + f.Name + " " + helpText.Replace(f.Help) + "\n# TYPE " + f.Name + " " + f.Type + "\n")
		for _, s := range f.Samples {
			b.WriteString(f.Name)
			for i := 0; i+1 < len(s.Labels); i += 2 {
				b.WriteString([...]string{"{", ","}[min(i, 1)])
				b.WriteString(s.Labels[i] + `="` + labelText.Replace(strings.ToValidUTF8(s.Labels[i+1], "�")) + `"`)
			}
			if len(s.Labels) > 1 {
				b.WriteByte('}')
			}
			b.WriteString(" " + strconv.FormatFloat(s.Value, 'g', -1, 64) + "\n")
		}
	}
	return b.Flush()
}

var (
	helpText  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelText = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)
