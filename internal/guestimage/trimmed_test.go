package guestimage

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	fragmentPath = repository + "/kernel/config.fragment"
	trimmedRoot  = repository + "/_build/kernel-trimmed/current"
)

// required are symbols that the trimmed kernel is promised to have, by what
// would not work without. The fragment may have more; it must not lose these.
var required = map[string]string{
	"direct boot": "PVH BLK_DEV_INITRD SERIAL_8250_CONSOLE",
	"devices": "VIRTIO_PCI VIRTIO_BLK VIRTIO_NET VIRTIO_CONSOLE VIRTIO_VSOCKETS VIRTIO_FS VIRTIO_BALLOON " +
		"VIRTIO_MEM VIRTIO_PMEM HW_RANDOM_VIRTIO PVPANIC PVPANIC_MMIO PVPANIC_PCI VMGENID",
	"plugging at run time": "PCIEPORTBUS HOTPLUG_PCI_PCIE HOTPLUG_PCI_ACPI PCI_MSI ACPI_HOTPLUG_CPU HOTPLUG_CPU " +
		"MEMORY_HOTPLUG MEMORY_HOTREMOVE ACPI_HOTPLUG_MEMORY PAGE_REPORTING",
	"KVM": "KVM_GUEST PARAVIRT PARAVIRT_SPINLOCKS X86_X2APIC",
	"file systems": "EROFS_FS EROFS_FS_XATTR EROFS_FS_POSIX_ACL EROFS_FS_ZIP OVERLAY_FS EXT4_FS EXT4_FS_POSIX_ACL XFS_FS " +
		"XFS_POSIX_ACL XFS_QUOTA FUSE_FS FUSE_DAX FS_DAX TMPFS TMPFS_XATTR TMPFS_POSIX_ACL HUGETLBFS DEVTMPFS " +
		"NFS_V3 NFS_V4 NFS_V4_1 NFS_V4_2 9P_FS NET_9P_VIRTIO BLK_DEV_LOOP BLK_DEV_DM DM_VERITY CRYPTO_SHA256",
	"namespaces": "UTS_NS IPC_NS PID_NS NET_NS USER_NS TIME_NS",
	"cgroup controllers": "MEMCG CPUSETS CGROUP_SCHED FAIR_GROUP_SCHED CFS_BANDWIDTH CGROUP_PIDS BLK_CGROUP " +
		"BLK_DEV_THROTTLING BLK_CGROUP_IOCOST BLK_CGROUP_IOLATENCY BLK_CGROUP_IOPRIO CGROUP_RDMA CGROUP_HUGETLB CGROUP_FREEZER CGROUP_CPUACCT CGROUP_PERF CGROUP_MISC CGROUP_BPF SWAP",
	"confinement":          "SECCOMP SECCOMP_FILTER BPF_SYSCALL BPF_UNPRIV_DEFAULT_OFF SECURITY_LANDLOCK KEYS PERSISTENT_KEYRINGS",
	"container networks":   "BRIDGE VETH VLAN_8021Q TUN DUMMY MACVLAN IPVLAN VXLAN WIREGUARD IPV6 BRIDGE_VLAN_FILTERING PACKET UNIX_DIAG INET_DIAG",
	"nftables":             "NF_TABLES NF_TABLES_INET NF_TABLES_NETDEV NFT_CT NFT_NAT NFT_MASQ NFT_REDIR NFT_LOG NFT_LIMIT NFT_REJECT NFT_COMPAT NFT_HASH NFT_NUMGEN NFT_FIB_INET NFT_TPROXY",
	"iptables":             "IP_NF_IPTABLES IP_NF_FILTER IP_NF_NAT IP_NF_MANGLE IP_NF_RAW IP_NF_TARGET_REJECT NETFILTER_XT_TARGET_MASQUERADE NETFILTER_XT_TARGET_REDIRECT",
	"ip6tables":            "IP6_NF_IPTABLES IP6_NF_FILTER IP6_NF_NAT IP6_NF_MANGLE IP6_NF_RAW IP6_NF_TARGET_REJECT",
	"matches of Docker":    "NETFILTER_XT_MATCH_ADDRTYPE NETFILTER_XT_MATCH_CONNTRACK NETFILTER_XT_MATCH_IPVS NETFILTER_XT_MARK BRIDGE_NETFILTER IP_VS IP_VS_NFCT IP_VS_PROTO_TCP IP_VS_PROTO_UDP IP_VS_RR NF_CT_NETLINK",
	"matches of meshes":    "NETFILTER_XT_MATCH_OWNER NETFILTER_XT_MATCH_SOCKET NETFILTER_XT_TARGET_TPROXY NETFILTER_XT_TARGET_CT NETFILTER_XT_SET IP_SET_HASH_IP",
	"shaping":              "NET_SCH_HTB NET_SCH_TBF NET_SCH_NETEM NET_SCH_INGRESS NET_CLS_U32 NET_ACT_MIRRED",
	"system calls":         "SYSVIPC POSIX_MQUEUE FUTEX EPOLL SIGNALFD TIMERFD EVENTFD AIO IO_URING FHANDLE INOTIFY_USER FANOTIFY USERFAULTFD MEMFD_CREATE MEMBARRIER RSEQ CHECKPOINT_RESTORE BINFMT_MISC MODIFY_LDT_SYSCALL",
	"old and 32-bit":       "IA32_EMULATION COMPAT_32BIT_TIME X86_VSYSCALL_EMULATION",
	"what /proc must tell": "MAGIC_SYSRQ PSI TASK_IO_ACCOUNTING IKCONFIG_PROC PROC_PAGE_MONITOR",
	"hardening": "STACKPROTECTOR_STRONG STRICT_KERNEL_RWX VMAP_STACK HARDENED_USERCOPY FORTIFY_SOURCE " +
		"PAGE_TABLE_ISOLATION RETPOLINE RETHUNK CPU_SRSO SLAB_FREELIST_HARDENED",
}

// unwanted cost memory or start time, or open what a guest has no use for.
const unwanted = "MODULES DEBUG_INFO DEBUG_INFO_BTF KALLSYMS_ALL FTRACE SLUB_DEBUG UNWINDER_ORC VT FB DRM INPUT USB_SUPPORT " +
	"SOUND WLAN ZRAM KEXEC KEXEC_FILE DEVMEM DEVPORT SECURITY_APPARMOR SECURITY_SELINUX AUDIT NUMA PREEMPT"

// parseKconfig reads a kernel configuration or a fragment of one. What is not
// set has the value n.
func parseKconfig(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	symbols := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		name, value, set := strings.Cut(line, "=")
		if off, ok := strings.CutSuffix(line, " is not set"); ok {
			name, value, set = strings.TrimPrefix(off, "# "), "n", true
		}
		name, ok := strings.CutPrefix(name, "CONFIG_")
		if !ok || !set {
			continue
		}
		if old, again := symbols[name]; again {
			t.Errorf("%s: CONFIG_%s is both %s and %s", path, name, old, value)
		}
		symbols[name] = value
	}
	return symbols
}

// expectPromised checks a configuration against the tables above.
func expectPromised(t *testing.T, symbols map[string]string) {
	t.Helper()
	for _, purpose := range slices.Sorted(maps.Keys(required)) {
		for name := range strings.FieldsSeq(required[purpose]) {
			if symbols[name] != "y" {
				t.Errorf("%s: CONFIG_%s is %q, want y", purpose, name, symbols[name])
			}
		}
	}
	for name := range strings.FieldsSeq(unwanted) {
		if value := symbols[name]; value != "" && value != "n" {
			t.Errorf("CONFIG_%s is %s, want it left out", name, value)
		}
	}
}

func TestFragmentHasWhatIsPromised(t *testing.T) {
	expectPromised(t, parseKconfig(t, fragmentPath))
}

// trimmedKernel is the one that `make kernel` has built.
func trimmedKernel(tb testing.TB) Kernel {
	tb.Helper()
	if _, err := os.Stat(trimmedRoot); err != nil {
		tb.Skip("there is no trimmed kernel: make kernel builds it")
	}
	kernel, err := FindKernel(trimmedRoot)
	if err != nil {
		tb.Fatal(err)
	}
	return kernel
}

// The kernel's own tools drop a symbol that misses a dependency without a word.
func TestTrimmedKernelKeepsTheFragment(t *testing.T) {
	kernel := trimmedKernel(t)
	built := parseKconfig(t, filepath.Join(trimmedRoot, "boot", "config-"+kernel.Release))
	expectPromised(t, built)
	wanted := parseKconfig(t, fragmentPath)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		got, ok := built[name]
		if !ok {
			got = "n"
		}
		if got != wanted[name] {
			t.Errorf("CONFIG_%s is %s, the fragment wants %s: is the kernel older than the fragment? make kernel", name, got, wanted[name])
		}
	}
}

// maxTrimmed is what a trimmed kernel may take of a guest's memory, in bytes:
// it stays there for good, once for each VM that is no clone.
const maxTrimmed = 24 << 20

func TestTrimmedKernelIsSmall(t *testing.T) {
	kernel := trimmedKernel(t)
	image, err := os.ReadFile(kernel.Image)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkPVH(image); err != nil {
		t.Error(err)
	}
	if kernel.Modules != "" || len(image) > maxTrimmed {
		t.Errorf("%d bytes, modules in %q: want at most %d, and none", len(image), kernel.Modules, maxTrimmed)
	}
}
