package guestimage

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// variant is one way to boot.
type variant struct {
	name    string
	image   *Image
	cmdline string
}

// results are what the boots of one variant took.
type results struct {
	ready, cpu []time.Duration
	// memory is the host's, in bytes; used is the guest's, in kilobytes.
	memory, used []int
}

// compare boots every variant once a round, so that what else the machine
// does hits all alike. It prints median and minimum of the time from QEMU's start
// to the agent's first line, and of the processor time that the whole life of
// the VM took, which a busy machine disturbs less; then the medians of the most
// memory that QEMU had, and of what the guest had used of its own by then.
func compare(b *testing.B, variants []variant) {
	took := map[string]*results{}
	for _, v := range variants {
		took[v.name] = &results{}
	}
	for range b.N {
		for _, v := range variants {
			log := boot(b, v.image, v.cmdline)
			if log.exit != nil || log.at["done"] == 0 {
				b.Fatalf("%s: %v\n%s", v.name, log.exit, log.console.String())
			}
			r := took[v.name]
			r.ready, r.cpu = append(r.ready, log.at["ready"]), append(r.cpu, log.cpu)
			r.memory = append(r.memory, log.memory)
			r.used = append(r.used, guestMemory<<10-log.numbers(b, "unused")[0])
		}
	}
	var table strings.Builder
	for _, v := range variants {
		r := took[v.name]
		fmt.Fprintf(&table, "| %-34s | %5.2f s | %5.2f s | %5.2f s | %5.2f s | %4d MB | %5.1f MB |\n", v.name,
			median(r.ready).Seconds(), slices.Min(r.ready).Seconds(), median(r.cpu).Seconds(), slices.Min(r.cpu).Seconds(),
			median(r.memory)/1e6, float64(median(r.used))*1024/1e6)
	}
	// Log cuts long output of benchmarks off.
	fmt.Printf("\n%s: %d rounds: median and minimum to ready, of processor time; memory of QEMU, of the guest\n%s", b.Name(), b.N, table.String())
}

func median[T cmp.Ordered](all []T) T {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkKernel compares the trimmed kernel with the stock one.
// DOUGONG_KERNELS names further ones, NAME=ROOT separated by spaces, where ROOT
// is laid out for FindKernel.
func BenchmarkKernel(b *testing.B) {
	full := Cmdline(CmdlineOptions{Emulated: true})
	variants := []variant{
		{"stock", testImage(b, distributionCrun), full},
		{"trimmed", imageOf(b, trimmedKernel(b), distributionCrun), full},
	}
	for further := range strings.FieldsSeq(os.Getenv("DOUGONG_KERNELS")) {
		name, root, _ := strings.Cut(further, "=")
		kernel, err := FindKernel(root)
		if err != nil {
			b.Fatal(err)
		}
		variants = append(variants, variant{name, imageOf(b, kernel, distributionCrun), full})
	}
	compare(b, variants)
}

// benchImage has the stock kernel, or with DOUGONG_KERNEL=trimmed that of
// make kernel.
func benchImage(b *testing.B) *Image {
	b.Helper()
	if os.Getenv("DOUGONG_KERNEL") == "trimmed" {
		return imageOf(b, trimmedKernel(b), distributionCrun)
	}
	return testImage(b, distributionCrun)
}

// BenchmarkCmdline tells what every parameter of the command line is worth,
// by leaving it out.
func BenchmarkCmdline(b *testing.B) {
	img := benchImage(b)
	full := Cmdline(CmdlineOptions{Emulated: true})
	variants := []variant{{"all", img, full}, {"all, again", img, full}, {"console=ttyS0 panic=-1", img, "console=ttyS0 panic=-1"}}
	for parameter := range strings.FieldsSeq(full) {
		if name, _, _ := strings.Cut(parameter, "="); name != "console" && name != "panic" && name != "reboot" {
			variants = append(variants, variant{"without " + parameter, img, strings.Replace(full, " "+parameter, "", 1)})
		}
	}
	compare(b, variants)
}

// BenchmarkCandidates tells what further parameters would be worth. What the
// command line as it is differs by from itself is noise, and so is any
// difference that is not clearly larger.
func BenchmarkCandidates(b *testing.B) {
	img := benchImage(b)
	full := Cmdline(CmdlineOptions{Emulated: true})
	variants := []variant{{"as it is", img, full}, {"as it is, again", img, full}}
	for _, parameter := range []string{
		"noreplace-smp", "init_on_alloc=0", "pcie_ports=compat", "randomize_kstack_offset=off",
		"initcall_blacklist=init_kprobe_trace,init_blk_tracer,crypto_kdf108_init",
		"noreplace-smp init_on_alloc=0",
	} {
		variants = append(variants, variant{"with " + parameter, img, full + " " + parameter})
	}
	compare(b, variants)
}

// BenchmarkCompression tells how an initramfs of the promised size boots,
// packed in each way.
func BenchmarkCompression(b *testing.B) {
	img := testImage(b, distributionCrun)
	packers := map[string]func(io.Writer) (io.WriteCloser, error){
		"lz4": func(w io.Writer) (io.WriteCloser, error) {
			z := lz4.NewWriter(w)
			return z, z.Apply(lz4.LegacyOption(true), lz4.CompressionLevelOption(lz4.Level9))
		},
		"zstd": func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
		},
	}
	variants := []variant{{fmt.Sprintf("none, %d kB", img.InitrdSize>>10), img, Cmdline(CmdlineOptions{Emulated: true})}}
	for _, name := range slices.Sorted(maps.Keys(packers)) {
		packed := *img
		packed.Initrd = filepath.Join(b.TempDir(), name)
		packed.InitrdSize = pack(b, img.Initrd, packed.Initrd, packers[name])
		variants = append(variants, variant{fmt.Sprintf("%s, %d kB", name, packed.InitrdSize>>10), &packed, variants[0].cmdline})
	}
	compare(b, variants)
}

func pack(b *testing.B, from, to string, packer func(io.Writer) (io.WriteCloser, error)) int {
	b.Helper()
	plain, err := os.ReadFile(from)
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	w, err := packer(&out)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(to, out.Bytes(), 0o644)
	}
	if err != nil {
		b.Fatalf("pack %s: %v", to, err)
	}
	return out.Len()
}
