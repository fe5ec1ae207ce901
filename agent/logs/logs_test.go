package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at0(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

// writer is a service's descriptor: it appends and is held open.
func writer(t *testing.T, dir, service, stream string) func(format string, args ...any) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, service), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, service, stream+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func(format string, args ...any) {
		if _, err := fmt.Fprintf(f, format, args...); err != nil {
			t.Fatal(err)
		}
	}
}

func texts(lines []topics.LogLine) string {
	var all []string
	for _, l := range lines {
		all = append(all, l.Line)
	}
	return strings.Join(all, " ")
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestLastOrdersStreamsByTime(t *testing.T) {
	dir := t.TempDir()
	out, errs := writer(t, dir, "web", "stdout"), writer(t, dir, "web", "stderr")
	out("old\n")
	d := New(dir)
	for i := range 3 {
		out("out%d\n", i)
		d.Poll(at0(2 * i))
		errs("err%d\n", i)
		d.Poll(at0(2*i + 1))
	}
	last := d.Last("web", 100)
	expect(t, texts(last), "old out0 err0 out1 err1 out2 err2")
	if !last[0].At.IsZero() {
		t.Errorf("the line from before anybody watched is of %v, want no time", last[0].At)
	}
	if !last[4].At.Equal(at0(3)) || last[4].Stream != "stderr" {
		t.Errorf("err1 is %+v, want stderr at %v", last[4], at0(3))
	}
	expect(t, texts(d.Last("web", 2)), "out2 err2")
	expect(t, texts(d.Last("web", 0)), "")
	expect(t, texts(d.Last("../web", 9)), "")
	expect(t, texts(d.Last("other", 9)), "")
}

func TestLastGivesBothStreamsTheirShareWhereTimesAreUnknown(t *testing.T) {
	dir := t.TempDir()
	out, errs := writer(t, dir, "web", "stdout"), writer(t, dir, "web", "stderr")
	out("a\nb\nc\n")
	errs("x\ny\nz\n")
	expect(t, texts(New(dir).Last("web", 4)), "b c y z")
}

func TestLastShowsALineThatIsNotEndedYet(t *testing.T) {
	dir := t.TempDir()
	writer(t, dir, "web", "stdout")("one\ntwo")
	expect(t, texts(New(dir).Last("web", 9)), "one two")
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	out, errs := writer(t, dir, "web", "stdout"), writer(t, dir, "web", "stderr")
	other := writer(t, dir, "other", "stdout")
	out("before\nhal")
	d := New(dir)
	d.Follow("web", at0(0), at0(10))
	other("not followed\n")
	out("f\nnext")
	errs("oops\n")
	lines := d.Poll(at0(1))
	var got []string
	for _, l := range lines {
		got = append(got, l.Service+" "+l.Stream+" "+l.Line)
	}
	expect(t, strings.Join(got, "; "), "web stdout half; web stderr oops")
	out(" line\n")
	if lines = d.Poll(at0(2)); len(lines) != 1 || lines[0].Line != "next line" || !lines[0].At.Equal(at0(2)) {
		t.Errorf("got %+v, want the whole line once", lines)
	}
	if !d.Following(at0(9)) || d.Following(at0(10)) {
		t.Error("followed from 0 to 10, and not longer")
	}
	out("unheard\n")
	if lines = d.Poll(at0(11)); len(lines) > 0 {
		t.Errorf("got %+v after the end", lines)
	}
	d.Follow("web", at0(12), at0(20))
	out("again\n")
	if lines = d.Poll(at0(13)); len(lines) != 1 || lines[0].Line != "again" {
		t.Errorf("got %+v, want what came after following anew", lines)
	}
}

func TestFollowOfALineWithoutAnEndAndOfAFlood(t *testing.T) {
	dir := t.TempDir()
	out := writer(t, dir, "web", "stdout")
	d := New(dir)
	d.Follow("web", at0(0), at0(100))
	out("%s", strings.Repeat("x", maxLine+10))
	if lines := d.Poll(at0(1)); len(lines) != 1 || len(lines[0].Line) != maxLine {
		t.Errorf("a long line came as %d", len(lines))
	}
	out("\n%s", strings.Repeat("a line\n", 100_000))
	lines := d.Poll(at0(2))
	if len(lines) > maxNewBytes/7+2 || !strings.Contains(lines[0].Line, "left out") {
		t.Errorf("%d lines of a flood, the first %q", len(lines), lines[0].Line)
	}
}

func TestCapRetainsTheEndAndGoesOnAtTheStart(t *testing.T) {
	dir := t.TempDir()
	out := writer(t, dir, "web", "stdout")
	d := New(dir)
	line := strings.Repeat("x", 99)
	total := 0
	for i := range 60 {
		for range 1000 {
			out("%s\n", line)
		}
		total += 100_000
		d.Poll(at0(i))
		if size := sizeOf(t, dir); size > 2*maxSize+100_000+maxLine {
			t.Fatalf("%d bytes on disk after %d were written", size, total)
		}
	}
	out("the last\n")
	d.Poll(at0(60))
	last := d.Last("web", 12_000)
	if n := len(last); n < 5_000 || last[n-1].Line != "the last" {
		t.Fatalf("%d lines, want about what 512 KB holds and more", n)
	}
	for i, l := range last {
		if i < len(last)-1 && l.Line != line {
			t.Fatalf("line %d is torn: %q", i, l.Line)
		}
		if i > 0 && l.At.Before(last[i-1].At.Time) {
			t.Fatalf("line %d is older than the one before", i)
		}
	}
	if last[0].At.IsZero() {
		t.Error("the cut lines lost their times")
	}
}

// Between the look at a file and the copy a crowded machine may let a service
// write far more than the copy holds.
func TestCapRetainsWhatWasWrittenMeanwhile(t *testing.T) {
	dir := t.TempDir()
	out := writer(t, dir, "web", "stdout")
	d := New(dir)
	flood := strings.Repeat(strings.Repeat("x", 99)+"\n", 2*maxSize/100)
	out("%s", flood)
	d.refreshServices(nil)
	s := &d.services["web"].streams[0]
	s.update(at0(0))
	out("%sthe end\n", flood)
	s.cut()
	if last := d.Last("web", 2); len(last) != 2 || last[1].Line != "the end" {
		t.Errorf("the last lines are %+v", last)
	}
	if size := sizeOf(t, dir); size > maxSize+maxLine {
		t.Errorf("%d bytes are left", size)
	}
}

func sizeOf(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	files, err := filepath.Glob(dir + "/web/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

func TestMemoryIsBoundedWhenAFileGrowsByAGigabyte(t *testing.T) {
	dir := t.TempDir()
	out := writer(t, dir, "web", "stdout")
	d := New(dir)
	d.Follow("web", at0(0), at0(100))
	path := filepath.Join(dir, "web", "stdout.log")
	if err := os.Truncate(path, 1<<30); err != nil { // a hole: it takes no room
		t.Fatal(err)
	}
	out("\nthe end\n")
	if d.Flooded(at0(0)) {
		t.Error("a flood before it came")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d.Poll(at0(1))
	if !d.Flooded(at0(2)) || d.Flooded(at0(60)) {
		t.Errorf("a flood: %v, and a minute later: %v", d.Flooded(at0(2)), d.Flooded(at0(60)))
	}
	last := d.Last("web", 5)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
		t.Errorf("%d MB of memory were taken", took>>20)
	}
	if n := len(last); n == 0 || last[n-1].Line != "the end" {
		t.Errorf("the last lines are %.80q", texts(last))
	}
	if size := sizeOf(t, dir); size > 2*maxSize {
		t.Errorf("%d bytes on disk", size)
	}
}

func TestMarksAreBounded(t *testing.T) {
	dir := t.TempDir()
	out := writer(t, dir, "web", "stdout")
	d := New(dir)
	for i := range 2000 {
		out("line %d\n", i)
		d.Poll(at0(i))
	}
	if n := len(d.services["web"].streams[0].marks); n > maxMarks {
		t.Errorf("%d marks, want %d at most", n, maxMarks)
	}
	last := d.Last("web", 2)
	if !last[1].At.Equal(at0(1999)) || !last[0].At.Equal(at0(1998)) {
		t.Errorf("the newest lines are of %v and %v", last[0].At, last[1].At)
	}
}

func TestAFileThatSomebodyElseCut(t *testing.T) {
	dir := t.TempDir()
	out := writer(t, dir, "web", "stdout")
	d := New(dir)
	d.Follow("web", at0(0), at0(100))
	out("one\ntwo\nthree\n")
	d.Poll(at0(1))
	if err := os.Truncate(filepath.Join(dir, "web", "stdout.log"), 0); err != nil {
		t.Fatal(err)
	}
	out("new\n")
	expect(t, fresh(d.Poll(at0(2))), emptiedLine+"; new")
	expect(t, texts(d.Last("web", 9)), "one two three "+emptiedLine+" new")
}

func TestALogThatIsALinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/web", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, dir+"/web/stdout.log"); err != nil {
		t.Fatal(err)
	}
	d := New(dir)
	d.Poll(at0(1))
	expect(t, texts(d.Last("web", 5)), "")
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                     "plain",
		"a\tb":                      "a\tb",
		"\x1b[31mred\x1b[0m":        "red",
		"\x1b]0;title\x07text":      "text",
		"\x1b]8;;u\x1b\\li\x1b]8;;": "li",
		"\x1bP1;2qdata\x1b\\after":  "after",
		"\x1b(Bx\x1b=y\x1bcz":       "xyz",
		"\u009b31mred":              "red",
		"\u009d0;t\u009cx":          "x",
		"\x1b":                      "",
		"\x1b[":                     "",
		"a\x1b\x1b[1mb":             "ab",
		"bell\x07 null\x00":         "bell null",
		"10%\r50%\r100%\r":          "100%",
		"\xff\xfe ok \xc3\x28":      "\ufffd\ufffd ok \ufffd(",
		"right\u202eleft":           "rightleft",
		"end\r":                     "end",
		"ümläut 日本":                 "ümläut 日本",
	} {
		expect(t, Clean([]byte(in)), want)
	}
	if got := Clean([]byte(strings.Repeat("ü", 10_000))); len(got) != maxLine {
		t.Errorf("a long line is %d bytes", len(got))
	}
}

func FuzzClean(f *testing.F) {
	f.Add([]byte("\x1b[31mred\x1b[0m"))
	f.Add([]byte("\xc2\x9b\xc2\x9d\x1b]"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got := Clean(in)
		if len(got) > maxLine || got != strings.ToValidUTF8(got, "") {
			t.Fatalf("%q of %q", got, in)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return r != '\t' && hidden(r) }); i >= 0 {
			t.Fatalf("%q of %q holds a control character", got, in)
		}
	})
}

func TestCapRetainsTheNewest(t *testing.T) {
	var marks []mark
	for i := range 10 {
		marks = append(marks, mark{int64(i), at0(i)})
	}
	var retained []int64
	for _, m := range thinMarks(marks) {
		retained = append(retained, m.from)
	}
	if !slices.Equal(retained, []int64{0, 2, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("retained %v", retained)
	}
}
