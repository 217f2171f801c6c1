package seccomp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxProgram is how many instructions the kernel takes (BPF_MAXINSNS).
const maxProgram = 4096

// instructionSize is that of struct sock_filter in bytes.
const instructionSize = 8

// maxJump is how far a conditional jump leads.
const maxJump = math.MaxUint8

// Compile returns a profile as a program for seccomp(2) on x86-64, an array of
// struct sock_filter; ErrUnsupported where it must be left to the runtime.
// Calls that are not known have no rule, as with libseccomp.
func Compile(profile *specs.LinuxSeccomp) ([]byte, error) {
	fallback, err := verdict(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	if fallback == retAllow || fallback == retLog {
		return nil, fmt.Errorf("%w: its default lets calls pass", ErrUnsupported)
	}
	program, err := compile(profile, fallback)
	if err != nil {
		return nil, err
	}
	if len(program) > maxProgram {
		return nil, fmt.Errorf("%w: %d instructions", ErrUnsupported, len(program))
	}
	var b []byte
	for _, i := range program {
		b = binary.LittleEndian.AppendUint16(b, i.code)
		b = append(b, i.jt, i.jf)
		b = binary.LittleEndian.AppendUint32(b, i.k)
	}
	return b, nil
}

// compile makes one part for each architecture behind a switch between them.
// A call of any other architecture ends the thread, as libseccomp has it.
func compile(profile *specs.LinuxSeccomp, fallback uint32) ([]instruction, error) {
	withX86, withX32, err := wanted(profile)
	if err != nil {
		return nil, err
	}
	native, narrow := table{}, table{}
	if err := x86_64.fill(native, profile, fallback); err != nil {
		return nil, err
	}
	if withX32 {
		if err := x32.fill(native, profile, fallback); err != nil {
			return nil, err
		}
	}
	end := []instruction{{code: opReturn, k: retKillThread}}
	if withX86 {
		if err := x86.fill(narrow, profile, fallback); err != nil {
			return nil, err
		}
		part, err := part(narrow, fallback, true, false)
		if err != nil {
			return nil, err
		}
		end = branch(opJumpEQ, uint32(x86.info.ID), part, end)
	}
	part, err := part(native, fallback, false, !withX32)
	if err != nil {
		return nil, err
	}
	return append([]instruction{{code: opLoad, k: offsetArch}}, branch(opJumpEQ, uint32(x86_64.info.ID), part, end)...), nil
}

// span are call numbers from start on, up to the next span, that fare alike.
type span struct {
	start uint32
	code  []instruction
}

// part is the program for one architecture, its number of a call loaded first.
func part(t table, fallback uint32, narrow, killX32 bool) ([]instruction, error) {
	spans := []span{{code: returns(fallback)}}
	add := func(start uint32, code []instruction) {
		if !slices.Equal(spans[len(spans)-1].code, code) {
			spans = append(spans, span{start, code})
		}
	}
	last := -1
	for _, number := range slices.Sorted(maps.Keys(t)) {
		if number > last+1 {
			add(uint32(last+1), returns(fallback))
		}
		code, err := t[number].code(fallback, narrow)
		if err != nil {
			return nil, err
		}
		// The very first span is empty where call 0 has a rule.
		if number == 0 {
			spans = spans[:0]
			spans = append(spans, span{0, code})
		} else {
			add(uint32(number), code)
		}
		last = number
	}
	add(uint32(last+1), returns(fallback))
	if killX32 {
		spans = append(spans, span{uint32(x32.info.SeccompMask), returns(retKillThread)})
	}
	return append([]instruction{{code: opLoad, k: offsetNumber}}, search(spans)...), nil
}

func returns(verdict uint32) []instruction { return []instruction{{code: opReturn, k: verdict}} }

// search finds the span of the number that is loaded.
func search(spans []span) []instruction {
	if len(spans) == 1 {
		return spans[0].code
	}
	half := len(spans) / 2
	return branch(opJumpGE, spans[half].start, search(spans[half:]), search(spans[:half]))
}

// branch tests what is loaded and goes on with yes or no.
func branch(op uint16, k uint32, yes, no []instruction) []instruction {
	if len(no) <= maxJump {
		head := instruction{code: op, k: k, jt: uint8(len(no))}
		return slices.Concat([]instruction{head}, no, yes)
	}
	far := instruction{code: opJump, k: uint32(len(no))}
	return slices.Concat([]instruction{{code: op, k: k, jf: 1}, far}, no, yes)
}

// code is the program for one call, which ends by itself.
func (c *call) code(fallback uint32, narrow bool) ([]instruction, error) {
	if c.always {
		return returns(c.verdict), nil
	}
	var code []instruction
	for _, rule := range c.rules {
		one, err := ruleCode(rule, c.verdict, narrow)
		if err != nil {
			return nil, err
		}
		code = append(code, one...)
	}
	return append(code, returns(fallback)...), nil
}

// ruleCode returns the verdict when every comparison holds, and otherwise goes
// on behind itself.
func ruleCode(rule []comparison, verdict uint32, narrow bool) ([]instruction, error) {
	var tests []test
	// ends are where each test's comparison ends.
	var ends []int
	for _, c := range rule {
		one := c.tests(narrow)
		for range one {
			ends = append(ends, len(tests)+len(one))
		}
		tests = append(tests, one...)
	}
	// The verdict stands behind the tests, and what comes next behind that.
	behind := len(tests) + 1
	var code []instruction
	for i, t := range tests {
		jump := func(to int) uint8 {
			return uint8([...]int{next: 0, pass: ends[i] - i - 1, fail: behind - i - 1}[to])
		}
		code = append(code, instruction{code: t.op, k: t.k, jt: jump(t.yes), jf: jump(t.not)})
	}
	if behind > maxJump {
		return nil, fmt.Errorf("%w: a rule of %d tests", ErrUnsupported, len(tests))
	}
	return append(code, returns(verdict)...), nil
}
