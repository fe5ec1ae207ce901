package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// write makes files below a directory: by path, a text. "-> TEXT" is a link, a path that ends
// in "/" a directory, and one that ends in "*" may be executed.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, strings.TrimSuffix(name, "*"))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		link, isLink := strings.CutPrefix(text, "-> ")
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(file, 0o755)
		case isLink:
			err = os.Symlink(link, file)
		case strings.HasSuffix(name, "*"):
			err = os.WriteFile(file, []byte(text), 0o755)
		default:
			err = os.WriteFile(file, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func pack(t *testing.T, dir string) ([]byte, Content) {
	t.Helper()
	var b bytes.Buffer
	c, err := Pack(dir, &b)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), c
}

func zstdOf(t testing.TB, tarred []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := Compress(&b)
	if err == nil {
		_, err = z.Write(tarred)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, tarred []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(tarred); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func emptyRoot(t testing.TB) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, dir
}

var webFiles = map[string]string{
	"Makefile": "run:\n\t./web\n", "web*": "#!/bin/sh\n", "static/index.html": "<p>", "static/a/b/c.css": "",
	"current": "-> static/index.html", "static/a/up": "-> ../../web", "empty/": "", "grüße.txt": "hello",
	strings.Repeat("long/", 25) + "name.txt": "x",
}

// reproducible is the digest of webFiles.
const reproducible = "sha256:3129d56be18d8192ef12226367444d5d0fb5a25d19109f916af123ff602f5c09"

// The same directory gives the same bytes, whenever and by whomever it was written.
func TestPackIsReproducible(t *testing.T) {
	var all [2][]byte
	for i := range all {
		dir := t.TempDir()
		write(t, dir, webFiles)
		at := time.Unix(int64(1_000_000_000*(i+1)), 0)
		for _, name := range []string{"web", "static", "Makefile"} {
			if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
				t.Fatal(err)
			}
		}
		if i == 1 {
			for name, mode := range map[string]os.FileMode{"Makefile": 0o664, "web": 0o700, "static": 0o700} {
				if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
					t.Fatal(err)
				}
			}
		}
		tarred, content := pack(t, dir)
		if content.Digest != DigestOf(tarred) || content.Size != int64(len(tarred)) || content.Files != 6 {
			t.Errorf("%+v of %d bytes with %s", content, len(tarred), DigestOf(tarred))
		}
		all[i] = tarred
	}
	if !bytes.Equal(all[0], all[1]) {
		t.Error("two directories with the same files gave different bundles")
	}
	if got := DigestOf(all[0]); got != reproducible {
		t.Errorf("the digest of these files is %s, and was %s: the version of every bundle changes", got, reproducible)
	}
}

// What was packed is what is unpacked, with both compressions.
func TestPackAndUnpack(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, webFiles)
	tarred, packed := pack(t, dir)
	for mediaType, layer := range map[string][]byte{LayerZstd: zstdOf(t, tarred), LayerGzip: gzipOf(t, tarred)} {
		root, into := emptyRoot(t)
		got, err := Unpack(bytes.NewReader(layer), mediaType, root, DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		if got != packed {
			t.Errorf("%s: unpacked %+v, packed %+v", mediaType, got, packed)
		}
		if again, _ := pack(t, into); !bytes.Equal(again, tarred) {
			t.Errorf("%s: what was unpacked is not what was packed", mediaType)
		}
	}
}

func TestIgnoreFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		IgnoreFile: "# a comment\n*.log\n/build/\n**/node_modules\n!build/keep.txt\n",
		"Makefile": "", "a.log": "", "build/x.o": "", "build/keep.txt": "", "ui/node_modules/x.js": "", "ui/x.js": "", ".git/config": "",
	})
	tarred, _ := pack(t, dir)
	var names []string
	for r := tar.NewReader(bytes.NewReader(tarred)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if got, want := strings.Join(names, " "), ".dominionignore Makefile build/keep.txt ui/ ui/x.js"; got != want {
		t.Errorf("packed %s, want %s", got, want)
	}
}

// What cannot travel is named, with the remedy.
func TestPackRefuses(t *testing.T) {
	for what, files := range map[string]map[string]string{
		"a link outside":            {"x": "-> ../secret"},
		"an absolute link":          {"x": "-> /etc/passwd"},
		"a link through a link":     {"a/b": "-> c", "x": "-> a/b/../../.."},
		"names that differ by case": {"Readme": "", "README": ""},
		"a name with a line break":  {"a\nb": ""},
	} {
		dir := t.TempDir()
		write(t, dir, files)
		var entry *EntryError
		if _, err := Pack(dir, io.Discard); !errors.As(err, &entry) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Pack(filepath.Join(t.TempDir(), "nosuch"), io.Discard); err == nil {
		t.Error("a directory that is not there was packed")
	}
}

// entries makes a tar of headers; a regular file gets as many x as its size.
func entries(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name string) *tar.Header { return &tar.Header{Name: name, Size: 1, Mode: 0o644} }

func link(name, to string) *tar.Header {
	return &tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink, Mode: 0o777}
}

func dirOf(name string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
}

// hostile are archives that must be refused.
func hostile(t testing.TB) map[string][]byte {
	with := func(h *tar.Header, change func(*tar.Header)) []byte { change(h); return entries(t, h) }
	raw := func(change func(b []byte)) []byte {
		b := entries(t, file("a"))
		change(b)
		return b
	}
	var files, directories []*tar.Header
	for i := range 201 {
		files = append(files, &tar.Header{Name: fmt.Sprint("f", i), Mode: 0o644})
	}
	for i := range 101 {
		directories = append(directories, &tar.Header{Name: fmt.Sprintf("d%d/f", i), Mode: 0o644})
	}
	return map[string][]byte{
		"name: absolute":                    entries(t, file("/etc/passwd")),
		"name: parent":                      entries(t, file("../x")),
		"name: parent inside":               entries(t, file("a/../../x")),
		"name: dot dot at the end":          entries(t, dirOf("a/..")),
		"name: double slash":                entries(t, file("a//b")),
		"name: dot inside":                  entries(t, file("a/./b")),
		"name: backslash":                   entries(t, file(`a\b`)),
		"name: line break":                  entries(t, file("a\nb")),
		"name: escape sequence":             entries(t, file("a\x1b[2Jb")),
		"name: too long":                    entries(t, file(strings.Repeat("x", maxName+1))),
		"name: path too long":               entries(t, file(strings.Repeat("abcdefgh/", 130)+"x")),
		"name: too deep":                    entries(t, file(strings.Repeat("d/", maxDepth)+"x")),
		"name: only slashes":                entries(t, dirOf("//")),
		"link: absolute":                    entries(t, link("a", "/etc")),
		"link: outside":                     entries(t, link("a", "..")),
		"link: outside from below":          entries(t, dirOf("d/"), link("d/a", "../../x")),
		"link: through a name":              entries(t, dirOf("d/"), link("a", "d/../../x")),
		"link: empty":                       entries(t, link("a", "")),
		"link: written through":             entries(t, link("a", "b"), file("a/x")),
		"link: replaced by a directory":     entries(t, link("a", "b"), dirOf("a/")),
		"link: replaced by a file":          entries(t, link("a", "b"), file("a")),
		"link: too long":                    entries(t, link("a", strings.Repeat("x", maxLinkText+1))),
		"link: of a directory with files":   entries(t, file("d/x"), link("d", "..")),
		"hard link: to a file":              entries(t, file("a"), &tar.Header{Name: "b", Linkname: "a", Typeflag: tar.TypeLink}),
		"hard link: outside":                entries(t, &tar.Header{Name: "b", Linkname: "/etc/shadow", Typeflag: tar.TypeLink}),
		"mode: setuid":                      with(file("a"), func(h *tar.Header) { h.Mode = 0o4755 }),
		"mode: setgid of a directory":       with(dirOf("a/"), func(h *tar.Header) { h.Mode = 0o2755 }),
		"mode: sticky":                      with(dirOf("a/"), func(h *tar.Header) { h.Mode = 0o1777 }),
		"device: character":                 entries(t, &tar.Header{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}),
		"device: block":                     entries(t, &tar.Header{Name: "a", Typeflag: tar.TypeBlock, Devmajor: 8}),
		"device: FIFO":                      entries(t, &tar.Header{Name: "a", Typeflag: tar.TypeFifo}),
		"size: larger than the limit":       entries(t, &tar.Header{Name: "a", Size: 9 << 20, Mode: 0o644}),
		"size: many that are":               entries(t, &tar.Header{Name: "a", Size: 5 << 20, Mode: 0o644}, &tar.Header{Name: "b", Size: 5 << 20, Mode: 0o644}),
		"size: truncated":                   entries(t, &tar.Header{Name: "a", Size: 4096, Mode: 0o644})[:1024],
		"size: bytes after the end":         append(entries(t, file("a")), bytes.Repeat([]byte("x"), 512)...),
		"ratio: zeros in a file":            zeros(t, 4<<20),
		"ratio: zeros after the end":        append(entries(t, file("a")), make([]byte, 4<<20)...),
		"count: files":                      entries(t, files...),
		"count: implied directories":        entries(t, directories...),
		"duplicate: file":                   entries(t, file("a"), file("a")),
		"duplicate: directory":              entries(t, dirOf("a/"), dirOf("a/")),
		"duplicate: with and without slash": entries(t, file("a"), dirOf("a/")),
		"duplicate: with ./":                entries(t, file("a"), file("./a")),
		"case: file":                        entries(t, file("Makefile"), file("makefile")),
		"case: directory":                   entries(t, file("Lib/a"), file("lib/b")),
		"unicode: not UTF-8":                raw(func(b []byte) { b[0] = 0xff; checksum(b) }),
		"unicode: decomposed":               entries(t, file("u\u0308")),
		"unicode: compatible letters":       entries(t, file("file"), file("ﬁle")),
		"unicode: invisible":                entries(t, file("a\u200bb")),
		"unicode: right to left":            entries(t, file("a\u202eb")),
		"header: wrong checksum":            raw(func(b []byte) { b[0] = 'b' }),
		"header: unknown type":              raw(func(b []byte) { b[156] = 'Z'; checksum(b) }),
		"header: extended attribute":        with(file("a"), func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "x"} }),
		"header: garbage":                   bytes.Repeat([]byte("garbage!"), 128),
	}
}

// checksum sets the checksum of the first header.
func checksum(b []byte) {
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	const octal = "01234567"
	for i := 5; i >= 0; i-- {
		b[148+i] = octal[sum&7]
		sum >>= 3
	}
	b[154], b[155] = 0, ' '
}

// zeros makes a tar with a file of zeros.
func zeros(t testing.TB, size int) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "a", Size: int64(size), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// refusals are what the error of each kind of hostile archive says.
var refusals = map[string]*regexp.Regexp{
	"name":      regexp.MustCompile("must be relative|cannot be shown|longer than|directories deep"),
	"link":      regexp.MustCompile("outside of the bundle|must be relative|link text|not a directory|two of this name"),
	"hard link": regexp.MustCompile("hard links"),
	"mode":      regexp.MustCompile("setuid"),
	"device":    regexp.MustCompile("devices"),
	"size":      regexp.MustCompile("larger than allowed: more than 8388608 bytes|unexpected EOF|follow the end"),
	"ratio":     regexp.MustCompile("times its compressed size"),
	"count":     regexp.MustCompile("more than 200 entries"),
	"duplicate": regexp.MustCompile("two of this name"),
	"case":      regexp.MustCompile("only in case"),
	"unicode":   regexp.MustCompile("composed form|cannot be shown|form of its letters|must be relative"),
	"header":    regexp.MustCompile("invalid tar header|of type|extended attribute"),
}

// A hostile archive is refused, and nothing is written outside of the directory.
func TestUnpackRefuses(t *testing.T) {
	all := hostile(t)
	if len(all) < 40 {
		t.Fatalf("%d archives", len(all))
	}
	for what, tarred := range all {
		for mediaType, layer := range map[string][]byte{LayerZstd: zstdOf(t, tarred), LayerGzip: gzipOf(t, tarred)} {
			around := t.TempDir()
			into := filepath.Join(around, "into")
			if err := os.Mkdir(into, 0o755); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(into)
			if err != nil {
				t.Fatal(err)
			}
			kind, _, _ := strings.Cut(what, ":")
			limits := Limits{Size: 8 << 20, Ratio: 100, Entries: 200}
			if kind == "size" {
				limits.Ratio = 1 << 20
			}
			if _, err := Unpack(bytes.NewReader(layer), mediaType, root, limits); err == nil || !refusals[kind].MatchString(err.Error()) {
				t.Errorf("%s (%s): %v", what, mediaType, err)
			}
			_ = root.Close()
			if left, err := os.ReadDir(around); err != nil || len(left) != 1 {
				t.Errorf("%s: beside the directory there is %v (%v)", what, left, err)
			}
		}
	}
}

// A damaged layer is refused, wherever the damage is.
func TestUnpackDamagedLayers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, webFiles)
	tarred, _ := pack(t, dir)
	layer := zstdOf(t, tarred)
	for cut := 0; cut < len(layer); cut += max(1, len(layer)/40) {
		root, _ := emptyRoot(t)
		if _, err := Unpack(bytes.NewReader(layer[:cut]), LayerZstd, root, DefaultLimits); err == nil {
			t.Errorf("the first %d of %d bytes were unpacked", cut, len(layer))
		}
	}
	root, _ := emptyRoot(t)
	if _, err := Unpack(bytes.NewReader(layer), "application/zip", root, DefaultLimits); err == nil {
		t.Error("a layer of another media type was unpacked")
	}
}

func FuzzUnpack(f *testing.F) {
	for _, tarred := range hostile(f) {
		if len(tarred) < 8<<10 {
			f.Add(tarred)
		}
	}
	f.Fuzz(func(t *testing.T, tarred []byte) {
		root, dir := emptyRoot(t)
		content, err := Unpack(bytes.NewReader(gzipOf(t, tarred)), LayerGzip, root, Limits{Size: 1 << 20, Ratio: 1000, Entries: 1000})
		if err != nil {
			return
		}
		if content.Digest != DigestOf(tarred) {
			t.Errorf("digest %s of %s", content.Digest, DigestOf(tarred))
		}
		// What may be unpacked may be packed, and the result means the same.
		if _, err := Pack(dir, io.Discard); err != nil {
			t.Errorf("unpacked, but cannot be packed: %v", err)
		}
	})
}
