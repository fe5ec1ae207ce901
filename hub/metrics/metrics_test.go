package metrics_test

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/hub/metrics"
)

func TestWrite(t *testing.T) {
	var b strings.Builder
	err := metrics.Write(&b, []metrics.Family{
		metrics.One("a_total", metrics.Counter, "Of a\nkind.", 1<<40),
		{Name: "none", Type: metrics.Gauge},
		{Name: "b_bytes", Type: metrics.Gauge, Help: "B.", Samples: []metrics.Sample{
			{Labels: []string{"domain", "pi\"\\\nx\xff", "service", "web"}, Value: 0.5}, {Labels: []string{"domain", "p"}, Value: 2},
		}},
	})
	want := "# HELP a_total Of a\\nkind.\n# TYPE a_total counter\na_total 1.099511627776e+12\n" +
		"# HELP b_bytes B.\n# TYPE b_bytes gauge\nb_bytes{domain=\"pi\\\"\\\\\\nx�\",service=\"web\"} 0.5\nb_bytes{domain=\"p\"} 2\n"
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), want)
	}
}
