package seccomp

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// data is struct seccomp_data as a program sees it.
type data struct {
	number uint32
	arch   uint32
	args   [maxArguments]uint64
}

// run runs a program on one call. The virtual machine reads words in the order
// of the network, so they are laid out so.
func run(t *testing.T, program []byte, d data) uint32 {
	t.Helper()
	var raw []bpf.RawInstruction
	for ; len(program) > 0; program = program[instructionSize:] {
		raw = append(raw, bpf.RawInstruction{
			Op: binary.LittleEndian.Uint16(program), Jt: program[2], Jf: program[3], K: binary.LittleEndian.Uint32(program[4:]),
		})
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has instructions that are none")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	in := binary.BigEndian.AppendUint32(nil, d.number)
	in = binary.BigEndian.AppendUint32(in, d.arch)
	in = append(in, make([]byte, offsetArgs-len(in))...)
	for _, a := range d.args {
		in = binary.BigEndian.AppendUint32(in, uint32(a))
		in = binary.BigEndian.AppendUint32(in, uint32(a>>32))
	}
	verdict, err := vm.Run(in)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}

func compiled(t *testing.T, profile *specs.LinuxSeccomp) []byte {
	t.Helper()
	program, err := Compile(profile)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func native(name string, args ...uint64) data {
	d := data{number: uint32(arch.X86_64.SyscallNames[name]), arch: uint32(arch.X86_64.ID)}
	copy(d.args[:], args)
	return d
}

func narrow(number uint32, args ...uint64) data {
	d := data{number: number, arch: uint32(arch.I386.ID)}
	copy(d.args[:], args)
	return d
}

func denying(calls ...specs.LinuxSyscall) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86}, Syscalls: calls,
	}
}

func allow(name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow, Args: args}
}

const denied = retErrno | defaultErrno

func TestCalls(t *testing.T) {
	program := compiled(t, denying(
		specs.LinuxSyscall{Names: []string{"read", "write", "no_such_call", "mseal"}, Action: specs.ActAllow},
		specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: new(uint(38))},
		specs.LinuxSyscall{Names: []string{"ptrace"}, Action: specs.ActKillProcess},
		specs.LinuxSyscall{Names: []string{"bind"}, Action: specs.ActAllow},
	))
	x32 := native("read")
	x32.number |= uint32(arch.X32.SeccompMask)
	tests := []struct {
		name string
		call data
		want uint32
	}{
		{"the first call", native("read"), retAllow},
		{"its neighbour", native("write"), retAllow},
		{"one without a rule", native("open"), denied},
		{"the last one with a rule", native("mseal"), retAllow},
		{"a number that no call has", data{number: 1000, arch: uint32(arch.X86_64.ID)}, denied},
		{"another error", native("clone3"), retErrno | 38},
		{"another action", native("ptrace"), retKillProcess},
		{"x32, which is not in the profile", x32, retKillThread},
		{"a call that reads on 386", narrow(3), retAllow},
		{"a call that reads on x86-64, on 386", narrow(0), denied},
		{"bind by itself on 386", narrow(361), retAllow},
		{"bind by socketcall on 386", narrow(102, 2), retAllow},
		{"listen by socketcall on 386", narrow(102, 4), denied},
		{"an architecture that is not in the profile", data{number: 0, arch: uint32(arch.AARCH64.ID)}, retKillThread},
	}
	for _, test := range tests {
		if got := run(t, program, test.call); got != test.want {
			t.Errorf("%s: got %#x, want %#x", test.name, got, test.want)
		}
	}
}

// TestComparisons tries every operator with values around the one compared
// with, in both halves.
func TestComparisons(t *testing.T) {
	const mask = 0x0000_00ff_0000_ff00
	holds := map[specs.LinuxSeccompOperator]func(a, v uint64) bool{
		specs.OpEqualTo:      func(a, v uint64) bool { return a == v },
		specs.OpNotEqual:     func(a, v uint64) bool { return a != v },
		specs.OpLessThan:     func(a, v uint64) bool { return a < v },
		specs.OpLessEqual:    func(a, v uint64) bool { return a <= v },
		specs.OpGreaterThan:  func(a, v uint64) bool { return a > v },
		specs.OpGreaterEqual: func(a, v uint64) bool { return a >= v },
		specs.OpMaskedEqual:  func(a, v uint64) bool { return a&mask == v&mask },
	}
	for op, holds := range holds {
		for _, v := range []uint64{0, 1, 38, 0xffffffff, 0x1_0000_0000, 0x12_3456_7800_9a00, 1<<64 - 1} {
			arg := specs.LinuxSeccompArg{Index: 2, Value: v, Op: op}
			if op == specs.OpMaskedEqual {
				arg.Value, arg.ValueTwo = mask, v&mask
			}
			program := compiled(t, denying(allow("ioctl", arg)))
			for _, a := range []uint64{v, v - 1, v + 1, v + 1<<32, v - 1<<32, v ^ 1<<63, 0, 1<<64 - 1} {
				want := uint32(denied)
				if holds(a, v) {
					want = retAllow
				}
				if got := run(t, program, native("ioctl", 7, 8, a)); got != want {
					t.Errorf("%#x %s %#x: got %#x, want %#x", a, op, v, got, want)
				}
			}
		}
	}
}

func TestRulesOfOneCall(t *testing.T) {
	equal := func(index uint, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
	}
	both := compiled(t, denying(allow("ioctl", equal(0, 1), equal(1, 2)), allow("ioctl", equal(0, 5))))
	either := compiled(t, denying(allow("ioctl", equal(0, 1), equal(0, 2))))
	plain := compiled(t, denying(allow("ioctl", equal(0, 1)), allow("ioctl")))
	for _, test := range []struct {
		name    string
		program []byte
		call    data
		want    uint32
	}{
		{"all comparisons of a rule hold", both, native("ioctl", 1, 2), retAllow},
		{"one of them does not", both, native("ioctl", 1, 3), denied},
		{"the other one does not", both, native("ioctl", 9, 2), denied},
		{"another rule holds", both, native("ioctl", 5, 9), retAllow},
		{"two about one argument: the first", either, native("ioctl", 1), retAllow},
		{"two about one argument: the second", either, native("ioctl", 2), retAllow},
		{"two about one argument: neither", either, native("ioctl", 3), denied},
		{"a rule without comparisons beside one with", plain, native("ioctl", 9), retAllow},
		{"386 has no upper halves", both, narrow(54, 1|1<<40, 2), retAllow},
	} {
		if got := run(t, test.program, test.call); got != test.want {
			t.Errorf("%s: got %#x, want %#x", test.name, got, test.want)
		}
	}
}

func TestUnsupported(t *testing.T) {
	for name, profile := range map[string]*specs.LinuxSeccomp{
		"a default that allows":       {DefaultAction: specs.ActAllow},
		"a default that logs":         {DefaultAction: specs.ActLog},
		"an unknown default":          {DefaultAction: "SCMP_ACT_DREAM"},
		"an error number for another": {DefaultAction: specs.ActKill, DefaultErrnoRet: new(uint(1))},
		"an error number too large":   {DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(5000))},
		"another architecture":        {DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchAARCH64}},
		"a tracer":                    denying(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActTrace}),
		"a listener":                  denying(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActNotify}),
		"rules that contradict":       denying(allow("read"), specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActKill}),
		"an unknown operator":         denying(allow("read", specs.LinuxSeccompArg{Op: "SCMP_CMP_MAYBE"})),
		"a seventh argument":          denying(allow("read", specs.LinuxSeccompArg{Index: 6, Op: specs.OpEqualTo})),
	} {
		if program, err := Compile(profile); !errors.Is(err, ErrUnsupported) || program != nil {
			t.Errorf("%s: got %d bytes, %v", name, len(program), err)
		}
	}
}

func TestEmbed(t *testing.T) {
	profile := denying(allow("read"))
	profile.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}
	spec := &specs.Spec{Annotations: map[string]string{"a": "b"}, Linux: &specs.Linux{Seccomp: profile}}
	Embed(spec)
	if got := spec.Linux.Seccomp; len(got.Syscalls) > 0 || len(got.Flags) != 1 || got.DefaultAction != specs.ActErrno {
		t.Errorf("the profile became %+v", got)
	}
	if len(profile.Syscalls) == 0 {
		t.Error("the caller's profile was changed")
	}
	program, err := base64.StdEncoding.DecodeString(spec.Annotations[programAnnotation])
	if err != nil || run(t, program, native("read")) != retAllow || spec.Annotations["a"] != "b" {
		t.Errorf("annotations %v, %v", spec.Annotations, err)
	}
}

// TestEmbedLeavesAlone what the runtime must see.
func TestEmbedLeavesAlone(t *testing.T) {
	for _, linux := range []*specs.Linux{nil, {}, {Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{allow("read")}}}} {
		spec := &specs.Spec{Linux: linux}
		Embed(spec)
		if spec.Annotations != nil || linux != nil && linux.Seccomp != nil && len(linux.Seccomp.Syscalls) == 0 {
			t.Errorf("became %+v", spec)
		}
	}
}
