package seccomp

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// comparison is a condition on one argument of a system call.
type comparison struct {
	index           uint
	op              specs.LinuxSeccompOperator
	value, valueTwo uint64
}

// maxArguments is how many arguments a system call has.
const maxArguments = 6

func newComparison(a specs.LinuxSeccompArg) (comparison, error) {
	switch a.Op {
	case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
	default:
		return comparison{}, fmt.Errorf("%w: operator %s", ErrUnsupported, a.Op)
	}
	if a.Index >= maxArguments {
		return comparison{}, fmt.Errorf("%w: argument %d", ErrUnsupported, a.Index)
	}
	return comparison{index: a.Index, op: a.Op, value: a.Value, valueTwo: a.ValueTwo}, nil
}

// Places in struct seccomp_data on a little-endian machine: the lower half of
// an argument comes first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
	argSize      = 8
	upperHalf    = 4
)

// Operations of classic BPF, as <linux/bpf_common.h> composes them.
const (
	opLoad   uint16 = 0x20 // A = word at K
	opAnd    uint16 = 0x54 // A &= K
	opJump   uint16 = 0x05
	opJumpEQ uint16 = 0x15
	opJumpGT uint16 = 0x25
	opJumpGE uint16 = 0x35
	opReturn uint16 = 0x06
)

// instruction is struct sock_filter.
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// Where the tests of a comparison lead. They are placed when all is there.
const (
	next = iota // the instruction that follows
	pass
	fail
)

// test is a conditional jump within a comparison, or, where op is not a jump,
// an instruction that leads to the next.
type test struct {
	op       uint16
	k        uint32
	yes, not int
}

// tests compares an argument. Of a 32-bit architecture the lower half is all
// there is.
func (c comparison) tests(narrow bool) []test {
	lower, upper := offsetArgs+uint32(c.index)*argSize, offsetArgs+uint32(c.index)*argSize+upperHalf
	if c.op == specs.OpMaskedEqual {
		// OCI's first value is the mask, its second one what is expected.
		t := masked(lower, uint32(c.value), uint32(c.valueTwo))
		if narrow {
			return t
		}
		return append(masked(upper, uint32(c.value>>32), uint32(c.valueTwo>>32)), t...)
	}
	t := append([]test{{op: opLoad, k: lower}}, c.lowerTest())
	if narrow {
		return t
	}
	return append(append([]test{{op: opLoad, k: upper}}, c.upperTests()...), t...)
}

// masked tests half an argument; the last such test of a comparison decides by
// falling through to what follows a passed one.
func masked(offset, mask, want uint32) []test {
	return []test{{op: opLoad, k: offset}, {op: opAnd, k: mask}, {op: opJumpEQ, k: want & mask, yes: next, not: fail}}
}

// lowerTest decides where the upper halves are equal.
func (c comparison) lowerTest() test {
	k := uint32(c.value)
	switch c.op {
	case specs.OpEqualTo:
		return test{op: opJumpEQ, k: k, yes: pass, not: fail}
	case specs.OpNotEqual:
		return test{op: opJumpEQ, k: k, yes: fail, not: pass}
	case specs.OpGreaterThan:
		return test{op: opJumpGT, k: k, yes: pass, not: fail}
	case specs.OpGreaterEqual:
		return test{op: opJumpGE, k: k, yes: pass, not: fail}
	case specs.OpLessThan:
		return test{op: opJumpGE, k: k, yes: fail, not: pass}
	default: // specs.OpLessEqual
		return test{op: opJumpGT, k: k, yes: fail, not: pass}
	}
}

// upperTests decide where the upper halves differ.
func (c comparison) upperTests() []test {
	k := uint32(c.value >> 32)
	switch c.op {
	case specs.OpEqualTo:
		return []test{{op: opJumpEQ, k: k, yes: next, not: fail}}
	case specs.OpNotEqual:
		return []test{{op: opJumpEQ, k: k, yes: next, not: pass}}
	case specs.OpGreaterThan, specs.OpGreaterEqual:
		return []test{{op: opJumpGT, k: k, yes: pass, not: next}, {op: opJumpEQ, k: k, yes: next, not: fail}}
	default: // less than, or equal
		return []test{{op: opJumpGT, k: k, yes: fail, not: next}, {op: opJumpEQ, k: k, yes: next, not: pass}}
	}
}
