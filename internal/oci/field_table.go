package oci

import (
	"reflect"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const hostHook = "run on the host by the sandbox, never in the guest"

var topFields = []Field{
	turn("ociVersion", "1.x is accepted; the guest's crun gets "+GuestVersion, "TestGuestVersion"),
	turn("root.path", "the guest agent assembles the root file system and names its path", "TestGuestRoot"),
	keep("root.readonly"),
	keep("hostname"),
	keep("domainname"),
	turn("annotations", "carried for startContainer hooks, without the keys meant for the host; `run.oci.*` keys that change what crun does are refused", "TestGuestAnnotations"),
}

var processFields = []Field{
	keep("process.terminal"),
	keep("process.consoleSize.height"),
	keep("process.consoleSize.width"),
	keep("process.user.uid"),
	keep("process.user.gid"),
	keep("process.user.umask"),
	keep("process.user.additionalGids"),
	turn("process.user.username", "looked up by the guest agent in the container's own /etc/passwd and /etc/group", "TestGuestUsername"),
	keep("process.args"),
	refuse("process.commandLine", "it is for Windows; use process.args"),
	keep("process.env"),
	keep("process.cwd"),
	keep("process.capabilities.bounding"),
	keep("process.capabilities.effective"),
	keep("process.capabilities.inheritable"),
	keep("process.capabilities.permitted"),
	keep("process.capabilities.ambient"),
	keep("process.rlimits[].type"),
	turn("process.rlimits[].hard", "RLIMIT_NOFILE is capped at the guest kernel's 1048576", "TestGuestRlimits"),
	turn("process.rlimits[].soft", "RLIMIT_NOFILE is capped at the guest kernel's 1048576", "TestGuestRlimits"),
	keep("process.noNewPrivileges"),
	refuseUnless("process.apparmorProfile", "AppArmor profiles of the host do not exist in the guest; use unconfined, the VM is the boundary", isUnconfined),
	keep("process.oomScoreAdj"),
	refuse("process.scheduler", "the guest's crun cannot set it"),
	refuse("process.selinuxLabel", "the guest has no SELinux policy; disable labels for this container"),
	refuse("process.ioPriority", "the guest's crun cannot set it"),
	refuse("process.execCPUAffinity", "host CPU numbers mean nothing in the guest"),
}

const mapped = "of a bind: the owners of the host's files are mapped where they are shared with the VM, or by the guest where it mounts them itself, and device nodes of every machine stay root's; refused for other types"

var mountFields = []Field{
	keep("mounts[].destination"),
	turn("mounts[].type", "proc, sysfs, cgroup, tmpfs, mqueue and devpts are made in the guest (cgroup2 becomes cgroup); a bind is handed to the sandbox; others are refused", "TestGuestMountTypes"),
	turn("mounts[].source", "of a bind: attached to the VM by the sandbox; of others: a mere name", "TestGuestBinds"),
	turn("mounts[].options", "known options only; shared propagation of binds cannot cross the VM boundary and is refused; idmap and ridmap are as the mappings; a sysfs is read-only for a container with a user namespace, to which the VM's network does not belong", "TestGuestMountOptions"),
	turn("mounts[].uidMappings", mapped, "TestGuestMountOwners"),
	turn("mounts[].gidMappings", mapped, "TestGuestMountOwners"),
}

var hookFields = []Field{
	turn("hooks.prestart", hostHook, "TestGuestHooks"),
	turn("hooks.createRuntime", hostHook, "TestGuestHooks"),
	turn("hooks.createContainer", hostHook, "TestGuestHooks"),
	keep("hooks.startContainer"),
	turn("hooks.poststart", hostHook, "TestGuestHooks"),
	turn("hooks.poststop", hostHook, "TestGuestHooks"),
}

var linuxFields = []Field{
	keep("linux.uidMappings"),
	keep("linux.gidMappings"),
	turn("linux.sysctl", "net.* are set for the whole VM, whose network is the container's; those of IPC and UTS reach crun; others are refused, as on a host", "TestGuestSysctls"),
	turn("linux.cgroupsPath", "the host's path holds the VM; in the guest it is /dougong/ID", "TestGuestCgroupsPath"),
	turn("linux.namespaces[].type", "the VM's network is the container's network namespace; a cgroup namespace is always made; a time namespace is none more, as the VM has clocks of its own; the host's pid, ipc, uts or network namespace is refused", "TestGuestNamespaces"),
	turn("linux.namespaces[].path", "a namespace of a container in the same sandbox is joined in the guest; others are refused", "TestGuestNamespacePaths"),
	turn("linux.devices", "standard nodes and FIFOs pass; a block device becomes a disk of the VM, and the node gets its numbers; others are refused", "TestGuestDevices"),
	refuse("linux.netDevices", "host network devices cannot be moved into the guest"),
	keep("linux.rootfsPropagation"),
	keep("linux.maskedPaths"),
	keep("linux.readonlyPaths"),
	refuse("linux.mountLabel", "the guest has no SELinux policy; disable labels for this container"),
	refuse("linux.intelRdt", "resctrl groups are not made for VMs"),
	refuse("linux.memoryPolicy", "host NUMA nodes mean nothing in the guest"),
	keep("linux.personality.domain"),
	refuse("linux.personality.flags", "the specification defines none"),
	refuse("linux.timeOffsets", "the guest's crun cannot make time namespaces"),
}

const hostCPUs = "left to the host's cgroup of the VM: host CPU and node numbers mean nothing in the guest"

var resourceFields = []Field{
	turn("linux.resources.devices", "rules for block devices of linux.devices get the numbers in the guest; those that allow others to be read or written are refused", "TestGuestDeviceRules"),
	keep("linux.resources.memory.limit"),
	keep("linux.resources.memory.reservation"),
	keep("linux.resources.memory.swap"),
	refuse("linux.resources.memory.kernel", "cgroup v2 has no kernel memory limit"),
	refuse("linux.resources.memory.kernelTCP", "cgroup v2 has no TCP memory limit"),
	refuseUnless("linux.resources.memory.swappiness", "cgroup v2 has no swappiness", never),
	refuse("linux.resources.memory.disableOOMKiller", "cgroup v2 cannot disable the OOM killer"),
	refuseUnless("linux.resources.memory.useHierarchy", "cgroup v2 is always hierarchical", isTrue),
	refuse("linux.resources.memory.checkBeforeUpdate", "the guest's crun does not check"),
	keep("linux.resources.cpu.shares"),
	keep("linux.resources.cpu.quota"),
	turn("linux.resources.cpu.burst", "written as cpu.max.burst", "TestGuestCPUBurst"),
	keep("linux.resources.cpu.period"),
	refuse("linux.resources.cpu.realtimeRuntime", "cgroup v2 has no realtime limit"),
	refuse("linux.resources.cpu.realtimePeriod", "cgroup v2 has no realtime limit"),
	turn("linux.resources.cpu.cpus", hostCPUs, "TestGuestDropsHostCPUs"),
	turn("linux.resources.cpu.mems", hostCPUs, "TestGuestDropsHostCPUs"),
	keep("linux.resources.cpu.idle"),
	keep("linux.resources.pids.limit"),
	refuse("linux.resources.blockIO", "host block devices and their weights mean nothing in the guest"),
	turn("linux.resources.hugepageLimits", "the guest reserves the pages; a limit of 0 holds by itself, and is left out", "TestGuestHugepageLimits"),
	refuse("linux.resources.network", "cgroup v2 has no network classes and priorities"),
	refuse("linux.resources.rdma", "the guest has no RDMA devices"),
	turn("linux.resources.unified", "as given, but cpuset.cpus and cpuset.mems: "+hostCPUs, "TestGuestDropsHostCPUs"),
}

var seccompFields = []Field{
	turn("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY is refused: its listener is on the host", "TestGuestSeccompNotify"),
	keep("linux.seccomp.defaultErrnoRet"),
	keep("linux.seccomp.architectures"),
	keep("linux.seccomp.flags"),
	refuse("linux.seccomp.listenerPath", "a seccomp listener on the host cannot serve the guest"),
	refuse("linux.seccomp.listenerMetadata", "a seccomp listener on the host cannot serve the guest"),
	keep("linux.seccomp.syscalls[].names"),
	turn("linux.seccomp.syscalls[].action", "SCMP_ACT_NOTIFY is refused: its listener is on the host", "TestGuestSeccompNotify"),
	keep("linux.seccomp.syscalls[].errnoRet"),
	keep("linux.seccomp.syscalls[].args"),
}

var platformFields = []Field{
	refuse("solaris", "containers are Linux containers"),
	refuse("windows", "containers are Linux containers"),
	refuse("vm", "the virtual machine is described by the configuration and annotations of Dougong"),
	refuse("zos", "containers are Linux containers"),
	refuse("freebsd", "containers are Linux containers"),
}

func isUnconfined(v reflect.Value) bool { return v.String() == "unconfined" }
func isTrue(v reflect.Value) bool       { return v.Elem().Bool() }
func never(reflect.Value) bool          { return false }

// specType is what the table describes.
var specType = reflect.TypeFor[specs.Spec]()
