package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"dougong.dev/dougong/internal/image/erofs/erofstest"
	"dougong.dev/dougong/internal/image/imagetest"
	"dougong.dev/dougong/internal/image/layer"
)

func tarOf(t testing.TB, l *imagetest.Layer) []byte {
	t.Helper()
	b, err := l.Tar()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// apply flattens layers and gives the image's path.
func apply(t testing.TB, limits layer.Limits, layers ...[]byte) (string, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := layer.NewBuilder(f, limits)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if _, err := b.Apply(t.Context(), bytes.NewReader(l), nil); err != nil {
			return "", err
		}
	}
	_, err = b.Finish([16]byte{})
	return f.Name(), err
}

// mounted flattens layers and gives the root of the mounted image.
func mounted(t testing.TB, layers ...*imagetest.Layer) string {
	t.Helper()
	var tars [][]byte
	for _, l := range layers {
		tars = append(tars, tarOf(t, l))
	}
	path, err := apply(t, layer.DefaultLimits(), tars...)
	if err != nil {
		t.Fatal(err)
	}
	erofstest.Check(t, path)
	return erofstest.Mount(t, path)
}

// list describes every file below root in one line.
func list(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root+"/.", func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", name, info.Mode())
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q links=%d", b, info.Sys().(*syscall.Stat_t).Nlink)
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// layers are to become files, one line for each as list describes it.
type layers struct {
	layers []*imagetest.Layer
	want   []string
}

func (l layers) check(t *testing.T) {
	t.Helper()
	if d := cmp.Diff(l.want, list(t, mounted(t, l.layers...))); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
}

func base() *imagetest.Layer {
	return imagetest.NewLayer().Dir("d", 0o755).File("d/a", 0o644, "a").File("d/b", 0o644, "b").Dir("d/e", 0o700).File("d/e/c", 0o600, "c")
}

func TestWhiteouts(t *testing.T) {
	n := imagetest.NewLayer
	tests := map[string]layers{
		"whiteout of a file": {
			[]*imagetest.Layer{base(), n().Whiteout("d/.wh.a")},
			[]string{`d drwxr-xr-x`, `d/b -rw-r--r-- "b" links=1`, `d/e drwx------`, `d/e/c -rw------- "c" links=1`},
		},
		"whiteout of a directory": {
			[]*imagetest.Layer{base(), n().Whiteout(".wh.d")}, nil,
		},
		"whiteout hides lower layers only, before": {
			[]*imagetest.Layer{base(), n().Whiteout("d/.wh.e").Dir("d/e", 0o755).File("d/e/new", 0o644, "n").Whiteout("d/.wh.a").File("d/a", 0o644, "A")},
			[]string{`d drwxr-xr-x`, `d/a -rw-r--r-- "A" links=1`, `d/b -rw-r--r-- "b" links=1`, `d/e drwxr-xr-x`, `d/e/new -rw-r--r-- "n" links=1`},
		},
		"whiteout hides lower layers only, after": {
			[]*imagetest.Layer{base(), n().Dir("d/e", 0o755).File("d/e/new", 0o644, "n").Whiteout("d/.wh.e").File("d/a", 0o644, "A").Whiteout("d/.wh.a")},
			[]string{`d drwxr-xr-x`, `d/a -rw-r--r-- "A" links=1`, `d/b -rw-r--r-- "b" links=1`, `d/e drwxr-xr-x`, `d/e/new -rw-r--r-- "n" links=1`},
		},
		"opaque, last": {
			[]*imagetest.Layer{base(), n().Dir("d", 0o711).File("d/x", 0o644, "x").Whiteout("d/.wh..wh..opq")},
			[]string{`d drwx--x--x`, `d/x -rw-r--r-- "x" links=1`},
		},
		"opaque, first": {
			[]*imagetest.Layer{base(), n().Whiteout("d/.wh..wh..opq").Dir("d", 0o711).File("d/x", 0o644, "x")},
			[]string{`d drwx--x--x`, `d/x -rw-r--r-- "x" links=1`},
		},
		"opaque root": {
			[]*imagetest.Layer{base(), n().Whiteout(".wh..wh..opq").File("x", 0o644, "x")},
			[]string{`x -rw-r--r-- "x" links=1`},
		},
		"whiteouts of nothing": {
			[]*imagetest.Layer{n().Whiteout(".wh.x").Whiteout("no/such/.wh.y").Whiteout("no/.wh..wh..opq").Whiteout(".wh..wh.plnk")}, nil,
		},
	}
	for name, test := range tests {
		t.Run(name, test.check)
	}
}

func TestReplacing(t *testing.T) {
	n := imagetest.NewLayer
	tests := map[string]layers{
		"directory's attributes change, entries stay": {
			[]*imagetest.Layer{base(), n().Dir("d/e", 0o1777)},
			[]string{`d drwxr-xr-x`, `d/a -rw-r--r-- "a" links=1`, `d/b -rw-r--r-- "b" links=1`, `d/e dtrwxrwxrwx`, `d/e/c -rw------- "c" links=1`},
		},
		"directory replaced by file": {
			[]*imagetest.Layer{base(), n().File("d", 0o644, "now a file")}, []string{`d -rw-r--r-- "now a file" links=1`},
		},
		"file replaced by directory": {
			[]*imagetest.Layer{n().File("x", 0o644, "x"), n().Dir("x", 0o750).File("x/y", 0o644, "y")},
			[]string{`x drwxr-x---`, `x/y -rw-r--r-- "y" links=1`},
		},
		"file replaced by implied directory": {
			[]*imagetest.Layer{n().File("x", 0o644, "x"), n().File("x/y", 0o644, "y")},
			[]string{`x drwxr-xr-x`, `x/y -rw-r--r-- "y" links=1`},
		},
		"link to directory replaced by directory": {
			[]*imagetest.Layer{base().Symlink("l", "d"), n().Dir("l", 0o755), n().Whiteout(".wh.d")}, []string{`l drwxr-xr-x`},
		},
		"implied parents": {
			[]*imagetest.Layer{n().File("a/b/c", 0o644, "c").Dir("a", 0o700)},
			[]string{`a drwx------`, `a/b drwxr-xr-x`, `a/b/c -rw-r--r-- "c" links=1`},
		},
	}
	for name, test := range tests {
		t.Run(name, test.check)
	}
}

func TestLinks(t *testing.T) {
	n := imagetest.NewLayer
	tests := map[string]layers{
		"hard links": {
			[]*imagetest.Layer{n().File("a", 0o644, "a").Link("b", "a").Link("d/c", "/b")},
			[]string{`a -rw-r--r-- "a" links=3`, `b -rw-r--r-- "a" links=3`, `d drwxr-xr-x`, `d/c -rw-r--r-- "a" links=3`},
		},
		"hard link to a lower layer": {
			[]*imagetest.Layer{base(), n().Link("x", "d/a")},
			[]string{
				`d drwxr-xr-x`, `d/a -rw-r--r-- "a" links=2`, `d/b -rw-r--r-- "b" links=1`, `d/e drwx------`, `d/e/c -rw------- "c" links=1`,
				`x -rw-r--r-- "a" links=2`,
			},
		},
		"replacing one hard link leaves the other": {
			[]*imagetest.Layer{n().File("a", 0o644, "old").Link("b", "a"), n().File("a", 0o644, "new"), n().Link("c", "b")},
			[]string{`a -rw-r--r-- "new" links=1`, `b -rw-r--r-- "old" links=2`, `c -rw-r--r-- "old" links=2`},
		},
		"removing one hard link leaves the other": {
			[]*imagetest.Layer{n().File("a", 0o644, "x").Link("b", "a"), n().Whiteout(".wh.a")}, []string{`b -rw-r--r-- "x" links=1`},
		},
		"hard link to a symbolic link, and to itself": {
			[]*imagetest.Layer{n().Symlink("s", "nowhere").Link("h", "s").Link("h", "h")},
			[]string{`h Lrwxrwxrwx -> nowhere`, `s Lrwxrwxrwx -> nowhere`},
		},
		"through a link of a lower layer": {
			[]*imagetest.Layer{n().Dir("usr/lib", 0o755).Symlink("lib", "usr/lib"), n().File("lib/x", 0o644, "x")},
			[]string{`lib Lrwxrwxrwx -> usr/lib`, `usr drwxr-xr-x`, `usr/lib drwxr-xr-x`, `usr/lib/x -rw-r--r-- "x" links=1`},
		},
		"through absolute, climbing and dangling links": {
			[]*imagetest.Layer{n().Symlink("abs", "/d").Symlink("d/up", "../../../../d/e").Symlink("dangling", "p/q").File("abs/up/../x", 0o644, "x").File("d/up/y", 0o644, "y").File("dangling/z", 0o644, "z")},
			[]string{
				`abs Lrwxrwxrwx -> /d`, `d drwxr-xr-x`, `d/e drwxr-xr-x`, `d/e/y -rw-r--r-- "y" links=1`, `d/up Lrwxrwxrwx -> ../../../../d/e`,
				`d/x -rw-r--r-- "x" links=1`, `dangling Lrwxrwxrwx -> p/q`, `p drwxr-xr-x`, `p/q drwxr-xr-x`, `p/q/z -rw-r--r-- "z" links=1`,
			},
		},
		"odd names": {
			[]*imagetest.Layer{n().File("/abs", 0o644, "1").File("./dot//x/../y", 0o644, "2").File("new\nline \xff", 0o644, "3").File("...", 0o644, "4")},
			[]string{`... -rw-r--r-- "4" links=1`, `abs -rw-r--r-- "1" links=1`, `dot drwxr-xr-x`, `dot/y -rw-r--r-- "2" links=1`, "new\nline \xff -rw-r--r-- \"3\" links=1"},
		},
		"same file twice in a layer": {
			[]*imagetest.Layer{n().File("a", 0o644, "1").File("a", 0o600, "2")}, []string{`a -rw------- "2" links=1`},
		},
		"no layers": {nil, nil},
	}
	for name, test := range tests {
		t.Run(name, test.check)
	}
}

// TestHeaders compares what the mounted image says with the tar headers.
func TestHeaders(t *testing.T) {
	longName := strings.Repeat("long", 60) + "/" + strings.Repeat("n", 255) + "/file"
	capability := "\x01\x00\x00\x02\x00\x04" + strings.Repeat("\x00", 14)
	headers := []tar.Header{
		{Typeflag: tar.TypeReg, Name: "setuid", Mode: 0o4755},
		{Typeflag: tar.TypeReg, Name: "setgid", Mode: 0o2750},
		{Typeflag: tar.TypeDir, Name: "sticky", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: "bigids", Mode: 0o600, Uid: 4_294_967_294, Gid: 3_000_000_000},
		{Typeflag: tar.TypeReg, Name: "nanos", Mode: 0o600, ModTime: time.Unix(1234567890, 123456789), Format: tar.FormatPAX},
		{Typeflag: tar.TypeReg, Name: "ancient", Mode: 0o600, ModTime: time.Unix(-1000, 0), Format: tar.FormatPAX},
		{Typeflag: tar.TypeReg, Name: "far", Mode: 0o600, ModTime: time.Unix(1<<34, 0), Format: tar.FormatPAX},
		{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o660, Devmajor: 259, Devminor: 70000, Gid: 6},
		{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o622},
		{Typeflag: tar.TypeSymlink, Name: "long-target", Linkname: strings.Repeat("t/", 2000), Mode: 0o777},
		{Typeflag: tar.TypeSymlink, Name: "absolute", Linkname: "/etc/passwd", Mode: 0o777, Uid: 5},
		{Typeflag: tar.TypeReg, Name: longName, Mode: 0o644},
		{Typeflag: tar.TypeReg, Name: "gnu/" + strings.Repeat("g", 200), Mode: 0o644, Format: tar.FormatGNU},
		{Typeflag: tar.TypeReg, Name: "xattrs", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.k": "v w", "SCHILY.xattr.trusted.x": "y",
		}},
		{Typeflag: tar.TypeDir, Name: "acl", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.system.posix_acl_default": "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff",
		}},
	}
	l := imagetest.NewLayer()
	for _, h := range headers {
		l.Add(h, "")
	}
	root := mounted(t, l)
	for _, h := range headers {
		compare(t, filepath.Join(root, h.Name), h)
	}
}

func compare(t *testing.T, path string, h tar.Header) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Errorf("%.40s: %v", h.Name, err)
		return
	}
	if h.ModTime.IsZero() {
		h.ModTime = imagetest.Epoch
	}
	got := []any{int64(st.Mode & 0o7777), int(st.Uid), int(st.Gid), time.Unix(st.Mtim.Unix()).UTC(), int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))}
	want := []any{h.Mode, h.Uid, h.Gid, h.ModTime.UTC(), h.Devmajor, h.Devminor}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%.40s: mode, uid, gid, mtime, device (-want +got):\n%s", h.Name, d)
	}
	if target, _ := os.Readlink(path); target != h.Linkname {
		t.Errorf("%s: target has %d bytes, want %d", h.Name, len(target), len(h.Linkname))
	}
	for key, value := range h.PAXRecords {
		buf := make([]byte, 1000)
		n, err := unix.Lgetxattr(path, strings.TrimPrefix(key, "SCHILY.xattr."), buf)
		if err != nil || string(buf[:max(n, 0)]) != value {
			t.Errorf("%s: %s is %q, error %v: want %q", h.Name, key, buf[:max(n, 0)], err, value)
		}
	}
}

func TestDroppedXattrs(t *testing.T) {
	root := mounted(t, imagetest.NewLayer().Add(tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o755, PAXRecords: map[string]string{
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.redirect": "/", "SCHILY.xattr.no.such": "x", "SCHILY.xattr.user.kept": "1",
	}}, ""))
	buf := make([]byte, 1000)
	n, err := unix.Llistxattr(filepath.Join(root, "d"), buf)
	if err != nil || string(buf[:n]) != "user.kept\x00" {
		t.Errorf("attributes %q, error %v", buf[:max(n, 0)], err)
	}
}

func TestBadLayers(t *testing.T) {
	n := imagetest.NewLayer
	long := strings.Repeat("n", 256)
	loop := n().Symlink("a", "b").Symlink("b", "a").File("a/x", 0o644, "")
	deep := strings.Repeat("d/", 2048) + "x"
	tests := map[string]struct {
		layer *imagetest.Layer
		want  string
	}{
		"climbs":                {n().File("../x", 0o644, ""), "leaves the root"},
		"climbs later":          {n().File("a/../../x", 0o644, ""), "leaves the root"},
		"hard link climbs":      {n().File("a", 0o644, "").Link("b", "../../etc/shadow"), "leaves the root"},
		"hard link to nothing":  {n().Link("b", "etc/shadow"), "no such file"},
		"hard link to dir":      {n().Dir("d", 0o755).Link("b", "d"), "is a directory"},
		"hard link to root":     {n().Link("b", "/"), "is a directory"},
		"root is a file":        {n().File(".", 0o644, ""), "root of the image"},
		"link loop":             {loop, "too many symbolic links"},
		"long name":             {n().File(long, 0o644, ""), "256 bytes"},
		"long name by link":     {n().Symlink("a", long).File("a/x", 0o644, ""), "256 bytes"},
		"long path":             {n().File(deep, 0o644, ""), "4097 bytes"},
		"long target":           {n().Symlink("a", strings.Repeat("x", 4096)), "4096 bytes"},
		"whiteout of nothing":   {n().Whiteout("d/.wh."), "names no file"},
		"whiteout of parent":    {n().Whiteout("d/.wh..."), "names no file"},
		"in a whiteout":         {n().File(".wh.x/y", 0o644, ""), "reserved for whiteouts"},
		"uid out of range":      {n().Add(tar.Header{Typeflag: tar.TypeReg, Name: "x", Uid: 1 << 32}, ""), "uid 4294967296"},
		"device out of range":   {n().Add(tar.Header{Typeflag: tar.TypeChar, Name: "x", Devmajor: 1 << 12}, ""), "no device number"},
		"unknown kind of entry": {n().Add(tar.Header{Typeflag: 'Z', Name: "x"}, ""), "unknown type"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := apply(t, layer.DefaultLimits(), tarOf(t, test.layer))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestBrokenStreams(t *testing.T) {
	good := tarOf(t, imagetest.NewLayer().File("a", 0o644, strings.Repeat("x", 5000)))
	for name, b := range map[string][]byte{
		"cut": good[:3000], "no tar": bytes.Repeat([]byte("x"), 1024),
		"bad gzip": append([]byte{0x1f, 0x8b, 8}, good...), "bad zstd": append([]byte{0x28, 0xb5, 0x2f, 0xfd}, good...),
	} {
		if _, err := apply(t, layer.DefaultLimits(), b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := apply(t, layer.DefaultLimits(), nil); err != nil {
		t.Errorf("an empty layer: %v", err)
	}
}

func TestDigest(t *testing.T) {
	plain := append(tarOf(t, imagetest.NewLayer().File("a", 0o644, "a")), "what follows the end counts, too"...)
	for _, c := range []layer.Compression{layer.None, layer.Gzip, layer.Zstd} {
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := layer.NewBuilder(f, layer.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		packed := compress(t, c, plain)
		var last int64
		got, err := b.Apply(t.Context(), bytes.NewReader(packed), func(n int64) { last = n })
		if err != nil || got != digest.FromBytes(plain) || last != int64(len(packed)) {
			t.Errorf("%q: digest %s, error %v, progress %d of %d", c, got, err, last, len(packed))
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, _ := layer.NewBuilder(f, layer.Limits{})
	l := tarOf(t, imagetest.NewLayer().File("a", 0o644, "a"))
	if _, err := b.Apply(ctx, bytes.NewReader(l), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestLimits(t *testing.T) {
	n := imagetest.NewLayer
	content := strings.Repeat("x", 5000)
	bomb := compress(t, layer.Zstd, tarOf(t, n().File("zeros", 0o644, strings.Repeat("\x00", 64<<20))))
	tests := map[string]struct {
		limits layer.Limits
		layer  []byte
		option string
	}{
		"bytes":    {layer.Limits{UnpackedBytes: 4000}, tarOf(t, n().File("a", 0o644, content)), "storage.max_unpacked_gib"},
		"bomb":     {layer.Limits{UnpackedBytes: 32 << 20}, bomb, "storage.max_unpacked_gib"},
		"files":    {layer.Limits{FileBytes: 4999}, tarOf(t, n().File("a", 0o644, content)), "storage.max_files_gib"},
		"entries":  {layer.Limits{Entries: 1}, tarOf(t, n().File("a", 0o644, "").File("b", 0o644, "")), "storage.max_image_entries"},
		"parents":  {layer.Limits{Entries: 3}, tarOf(t, n().File("a/b/c/d", 0o644, "")), "storage.max_image_entries"},
		"metadata": {layer.Limits{MetadataBytes: 100}, tarOf(t, n().File(strings.Repeat("n", 101), 0o644, "")), "storage.max_metadata_mib"},
		"sparse":   {layer.Limits{FileBytes: 1 << 40}, sparse(1<<41, []byte("data")), "storage.max_files_gib"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := apply(t, test.limits, test.layer)
			le, ok := errors.AsType[*layer.LimitError](err)
			if !ok || le.Option != test.option || !errors.Is(err, errdefs.ErrResourceExhausted) {
				t.Errorf("error %v, want one of limit %s", err, test.option)
			}
		})
	}
}
