package seccomp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ErrUnsupported says that a profile asks for something whose meaning is
// libseccomp's own: a default that lets calls pass, rules that contradict each
// other, or actions that talk to a third process.
var ErrUnsupported = errors.New("seccomp profile is left to the runtime")

// What the kernel does with a call, as a program returns it (SECCOMP_RET_* of
// <linux/seccomp.h>).
const (
	retKillProcess uint32 = 0x80000000
	retKillThread  uint32 = 0x00000000
	retTrap        uint32 = 0x00030000
	retErrno       uint32 = 0x00050000
	retLog         uint32 = 0x7ffc0000
	retAllow       uint32 = 0x7fff0000
)

// defaultErrno is EPERM.
const defaultErrno = 1

// verdict is the return value for an action of a profile.
func verdict(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	if errno != nil && action != specs.ActErrno {
		return 0, fmt.Errorf("%w: action %s with an error number", ErrUnsupported, action)
	}
	switch action {
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		number := uint(defaultErrno)
		if errno != nil {
			number = *errno
		}
		if number > maxErrno {
			return 0, fmt.Errorf("%w: error number %d", ErrUnsupported, number)
		}
		return retErrno | uint32(number), nil
	}
	return 0, fmt.Errorf("%w: action %s", ErrUnsupported, action)
}

// maxErrno is the largest error number that the kernel returns.
const maxErrno = 4095

// call is what becomes of one system call of one architecture.
type call struct {
	// always says that rules has no say.
	always  bool
	verdict uint32
	// rules are tried in turn; where none holds, the default applies.
	rules [][]comparison
}

// table is what becomes of the system calls of an architecture, by number.
type table map[int]*call

// add adds a rule. Rules for one call must agree on what becomes of it: which
// of them would win is libseccomp's own.
func (t table) add(number int, verdict uint32, rule []comparison) error {
	c := t[number]
	if c == nil {
		c = &call{verdict: verdict}
		t[number] = c
	}
	if c.verdict != verdict {
		return fmt.Errorf("%w: rules for call %d contradict each other", ErrUnsupported, number)
	}
	if len(rule) == 0 {
		c.always, c.rules = true, nil
	}
	if !c.always {
		c.rules = append(c.rules, rule)
	}
	return nil
}

// comparisons are the rules that one entry of a profile makes for each of its
// calls: all conditions at once, or each by itself where two are about the
// same argument. So do crun and runc.
func comparisons(args []specs.LinuxSeccompArg) ([][]comparison, error) {
	if len(args) == 0 {
		return [][]comparison{nil}, nil
	}
	var all []comparison
	alone := false
	seen := map[uint]bool{}
	for _, a := range args {
		c, err := newComparison(a)
		if err != nil {
			return nil, err
		}
		alone = alone || seen[a.Index]
		seen[a.Index] = true
		all = append(all, c)
	}
	if !alone {
		return [][]comparison{all}, nil
	}
	var each [][]comparison
	for _, c := range all {
		each = append(each, []comparison{c})
	}
	return each, nil
}

// abi is a set of system call numbers within an architecture.
type abi struct {
	info *arch.Info
	// multiplexed are calls that also go through another one, whose first
	// argument then says which.
	multiplexed map[string]multiplex
}

type multiplex struct {
	call   string
	number uint64
}

// number is the number of a call as a program sees it.
func (a abi) number(name string) (int, bool) {
	n, ok := a.info.SyscallNames[name]
	return n | a.info.SeccompMask, ok
}

// add adds a rule for a call by name, which this architecture may not have.
func (a abi) add(t table, name string, verdict uint32, rule []comparison) error {
	if n, ok := a.number(name); ok {
		if err := t.add(n, verdict, rule); err != nil {
			return err
		}
	}
	m, ok := a.multiplexed[name]
	if !ok || len(rule) > 0 {
		return nil
	}
	n, _ := a.number(m.call)
	return t.add(n, verdict, []comparison{{op: specs.OpEqualTo, value: m.number}})
}

// fill adds the rules of a profile that do not just repeat its default.
func (a abi) fill(t table, profile *specs.LinuxSeccomp, fallback uint32) error {
	for _, s := range profile.Syscalls {
		v, err := verdict(s.Action, s.ErrnoRet)
		if err != nil {
			return err
		}
		if v == fallback {
			continue
		}
		rules, err := comparisons(s.Args)
		if err != nil {
			return err
		}
		for _, name := range s.Names {
			for _, r := range rules {
				if err := a.add(t, name, v, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// The architectures of an x86-64 kernel.
var (
	x86_64 = abi{info: arch.X86_64}
	x32    = abi{info: arch.X32}
	x86    = abi{info: arch.I386, multiplexed: multiplexed()}
)

// multiplexed are the numbers of <linux/net.h> and <linux/ipc.h>.
func multiplexed() map[string]multiplex {
	m := make(map[string]multiplex)
	for i, name := range []string{
		"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
		"sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
	} {
		m[name] = multiplex{call: "socketcall", number: uint64(i + 1)}
	}
	for name, number := range map[string]uint64{
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
		"shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	} {
		m[name] = multiplex{call: "ipc", number: number}
	}
	return m
}

// wanted says which architectures a profile has; the native one always.
func wanted(profile *specs.LinuxSeccomp) (withX86, withX32 bool, err error) {
	for _, a := range profile.Architectures {
		if !slices.Contains([]specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}, a) {
			return false, false, fmt.Errorf("%w: architecture %s", ErrUnsupported, a)
		}
	}
	return slices.Contains(profile.Architectures, specs.ArchX86), slices.Contains(profile.Architectures, specs.ArchX32), nil
}
