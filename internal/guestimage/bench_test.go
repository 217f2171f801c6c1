package guestimage

import (
	"bytes"
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

// compare boots every variant once a round, so that what else the machine
// does hits all alike. It prints median and minimum of the time from QEMU's start
// to the agent's first line, and of the processor time that the whole life of
// the VM took, which a busy machine disturbs less.
func compare(b *testing.B, variants []variant) {
	ready, cpu := map[string][]time.Duration{}, map[string][]time.Duration{}
	for range b.N {
		for _, v := range variants {
			log := boot(b, v.image, v.cmdline)
			if log.exit != nil || log.at["done"] == 0 {
				b.Fatalf("%s: %v\n%s", v.name, log.exit, log.console.String())
			}
			ready[v.name] = append(ready[v.name], log.at["ready"])
			cpu[v.name] = append(cpu[v.name], log.cpu)
		}
	}
	var table strings.Builder
	for _, v := range variants {
		fmt.Fprintf(&table, "| %-34s | %5.2f s | %5.2f s | %5.2f s | %5.2f s |\n", v.name,
			median(ready[v.name]).Seconds(), slices.Min(ready[v.name]).Seconds(), median(cpu[v.name]).Seconds(), slices.Min(cpu[v.name]).Seconds())
	}
	// Log cuts long output of benchmarks off.
	fmt.Printf("\n%s: %d rounds: median and minimum to ready, of processor time\n%s", b.Name(), b.N, table.String())
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkCmdline tells what every parameter of the command line is worth,
// by leaving it out.
func BenchmarkCmdline(b *testing.B) {
	img := testImage(b, distributionCrun)
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
	img := testImage(b, distributionCrun)
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
