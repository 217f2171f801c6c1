package freeze

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseMaps(t *testing.T) {
	const text = `558945989000-558945c59000 r--p 00001000 fe:00 12345                      /usr/bin/qemu system
7ffc01e76000-7ffc01e97000 rw-p 00000000 00:00 0                          [stack]
7ffc01f3a000-7ffc01f3e000 r--p 00000000 00:00 0                          [vvar]
7f0000000000-7f0020000000 rw-s 00000000 00:01 1029                       /memfd:guest-memory (deleted)
7f1000000000-7f1004000000 rwxp 00000000 00:00 0 
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`
	got, err := parseMaps(text)
	if err != nil {
		t.Fatal(err)
	}
	const rw = unix.PROT_READ | unix.PROT_WRITE
	want := []area{
		{start: 0x558945989000, end: 0x558945c59000, prot: unix.PROT_READ, offset: 0x1000, device: unix.Mkdev(0xfe, 0), inode: 12345, path: "/usr/bin/qemu system"},
		{start: 0x7ffc01e76000, end: 0x7ffc01e97000, prot: rw, path: "[stack]"},
		{start: 0x7ffc01f3a000, end: 0x7ffc01f3e000, prot: unix.PROT_READ, path: "[vvar]"},
		{start: 0x7f0000000000, end: 0x7f0020000000, prot: rw, shared: true, device: unix.Mkdev(0, 1), inode: 1029, path: "/memfd:guest-memory (deleted)"},
		{start: 0x7f1000000000, end: 0x7f1004000000, prot: rw | unix.PROT_EXEC},
		{start: 0xffffffffff600000, end: 0xffffffffff601000, prot: unix.PROT_EXEC, path: "[vsyscall]"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(area{})); diff != "" {
		t.Error(diff)
	}
	if !got[1].stack() || !got[2].kernels() || !got[5].global() || got[0].kernels() {
		t.Error("areas are taken for others")
	}
}

func TestParseMapsOfNonsense(t *testing.T) {
	for _, line := range []string{"", "x", "1-2", "2-1 r--p 0 0:0 0", "1-2 r--p 0 0:0 x", "1-2 r-p 0 0:0 0", "1-2 r--p 0 zz 0 /x"} {
		if got, err := parseMaps(line + "\n"); err == nil {
			t.Errorf("%q is %+v", line, got)
		}
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add("1000-2000 rw-p 0 0:0 0 [heap]\n")
	f.Add("1000-2000 rw-s 10 fe:1 7 /memfd:x (deleted)\n")
	f.Fuzz(func(t *testing.T, text string) {
		areas, err := parseMaps(text)
		if err != nil {
			return
		}
		for _, a := range areas {
			if a.end <= a.start {
				t.Errorf("%+v", a)
			}
		}
	})
}

func TestParseDescriptor(t *testing.T) {
	d, err := parseDescriptor("pos:\t0\nflags:\t02000002\nmnt_id:\t15\neventfd-count:                3\ntfd:       12 events:       19 data:     7f00deadbeef  pos:0 ino:1 sdev:2\n")
	if err != nil {
		t.Fatal(err)
	}
	if d.flags != unix.O_CLOEXEC|unix.O_RDWR || d.info["eventfd-count"] != "3" {
		t.Errorf("got %+v", d)
	}
	if diff := cmp.Diff([]watch{{number: 12, events: 0x19, data: 0x7f00deadbeef}}, d.watched, cmp.AllowUnexported(watch{})); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"", "flags: x\n", "flags: 02\ntfd: 1\n", "flags: 02\ntfd: x events: 1 data: 1\n"} {
		if got, err := parseDescriptor(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func FuzzParseDescriptor(f *testing.F) {
	f.Add("flags:\t02\ntfd: 1 events: 19 data: ff\n")
	f.Fuzz(func(_ *testing.T, text string) {
		d, err := parseDescriptor(text)
		if err == nil {
			_, _ = d.infoNumber("eventfd-count", 16)
		}
	})
}

func TestRuns(t *testing.T) {
	set := func(s string) []bool {
		var b []bool
		for _, c := range s {
			b = append(b, c == 'x')
		}
		return b
	}
	for text, want := range map[string][][2]int{
		"":             nil,
		"....":         nil,
		"x":            {{0, 1}},
		".xx.x....x":   {{1, 5}, {9, 10}},
		"x...x":        {{0, 1}, {4, 5}},
		"x..x":         {{0, 4}},
		"xxxx........": {{0, 4}},
	} {
		if diff := cmp.Diff(want, runs(set(text), 3)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestSettle(t *testing.T) {
	for name, tt := range map[string]struct{ before, after unix.PtraceRegs }{
		"interrupted call":     {unix.PtraceRegs{Rip: 102, Rax: restart(512), Orig_rax: 7}, unix.PtraceRegs{Rip: 100, Rax: 7, Orig_rax: ^uint64(0)}},
		"call with a block":    {unix.PtraceRegs{Rip: 102, Rax: restart(516), Orig_rax: 271}, unix.PtraceRegs{Rip: 100, Rax: 271, Orig_rax: ^uint64(0)}},
		"call that is done":    {unix.PtraceRegs{Rip: 102, Rax: 5, Orig_rax: 7}, unix.PtraceRegs{Rip: 102, Rax: 5, Orig_rax: ^uint64(0)}},
		"no call":              {unix.PtraceRegs{Rip: 102, Rax: restart(512), Orig_rax: ^uint64(0)}, unix.PtraceRegs{Rip: 102, Rax: restart(512), Orig_rax: ^uint64(0)}},
		"call that has failed": {unix.PtraceRegs{Rip: 102, Rax: restart(4), Orig_rax: 7}, unix.PtraceRegs{Rip: 102, Rax: restart(4), Orig_rax: ^uint64(0)}},
	} {
		r := tt.before
		settle(&r)
		if r != tt.after {
			t.Errorf("%s: got %+v, want %+v", name, r, tt.after)
		}
	}
}

func restart(code int64) uint64 { return uint64(-code) }
