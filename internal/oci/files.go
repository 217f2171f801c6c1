package oci

import (
	"fmt"
	"net/netip"
	"strings"
)

// File is a small file of a container that is sent to the guest beside its spec.
type File struct {
	// Name is what a mount's source "files:NAME" refers to.
	Name    string
	Content []byte
	Mode    uint32
}

// Files renders the files behind the files: mounts of a generated spec.
// fallback are the DNS servers used when the options name none.
func Files(run RunOptions, fallback []string) ([]File, error) {
	hostname := HostnameOf(run)
	if err := checkHostname(hostname); err != nil {
		return nil, err
	}
	servers := run.DNS
	if len(servers) == 0 {
		servers = fallback
	}
	resolv, err := ResolvConf(servers)
	if err != nil {
		return nil, err
	}
	return []File{
		{Name: "resolv.conf", Content: resolv, Mode: 0o644},
		{Name: "hosts", Content: Hosts(hostname), Mode: 0o644},
		{Name: "hostname", Content: []byte(hostname + "\n"), Mode: 0o644},
	}, nil
}

// ResolvConf renders a resolv.conf with the servers given as IP addresses.
func ResolvConf(servers []string) ([]byte, error) {
	var b strings.Builder
	for _, s := range servers {
		if _, err := netip.ParseAddr(s); err != nil {
			return nil, invalid("DNS server %q is not an IP address", s)
		}
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return []byte(b.String()), nil
}

// Hosts renders an /etc/hosts in which the container finds itself.
func Hosts(hostname string) []byte {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	if hostname != "" {
		short, _, _ := strings.Cut(hostname, ".")
		names := hostname
		if short != hostname {
			names += " " + short
		}
		fmt.Fprintf(&b, "127.0.1.1\t%s\n", names)
	}
	return []byte(b.String())
}

// maxHostname is the kernel's limit for a host name.
const maxHostname = 64

const hostnameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// checkHostname refuses names that would break the files or sethostname.
func checkHostname(name string) error {
	if len(name) > maxHostname {
		return invalid("host name %q is longer than %d characters", name, maxHostname)
	}
	for label := range strings.SplitSeq(name, ".") {
		bad := strings.Trim(label, hostnameLetters) != ""
		if name != "" && (label == "" || bad || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-")) {
			return invalid("host name %q has characters that no host name may have", name)
		}
	}
	return nil
}
