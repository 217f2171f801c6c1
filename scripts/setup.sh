#!/bin/sh
# Installs the distribution's packages that a purpose needs, if any is missing.
# Without a missing one it neither changes anything nor uses the network.
#
#   scripts/setup.sh run|test|cri|crio|podman|docker|lint|bench|kernel|site|site-quick
set -eu

# virtiofsd is part of qemu-system-common in Debian 12 and a package of its own
# later; qemu-system-data brings the firmware. The compiler and its company
# build the guest's static crun.
run="qemu-system-x86 qemu-system-common qemu-system-data crun busybox-static ca-certificates gcc libc6-dev make patch xz-utils pkg-config"
test="$run iproute2 iptables containernetworking-plugins runc erofs-utils skopeo debootstrap nginx-light curl python3 openssl"
# Debian's package of npm is left out where another npm is there already.
node="nodejs $(command -v npm >/dev/null || echo npm)"
case ${1-} in
run) packages=$run ;;
test) packages=$test ;;
cri) packages="$test containernetworking-plugins iptables iproute2 e2fsprogs" ;;
crio) packages="$test conmon nftables iptables iproute2 libseccomp-dev" ;;
podman) packages="$test podman conmon catatonit netavark aardvark-dns iptables iproute2" ;;
docker) packages="$test docker.io iptables iproute2" ;;
lint) packages="shellcheck" ;;
bench) packages="$run runc podman conmon erofs-utils iperf3 iputils-ping containernetworking-plugins" ;;
kernel) packages="gcc libc6-dev make flex bison bc perl xz-utils libelf-dev binutils" ;;
site-quick) packages=$node ;;
site) packages="$node chromium fonts-dejavu-core fonts-droid-fallback" ;;
*)
    echo "usage: scripts/setup.sh run|test|cri|crio|podman|docker|lint|bench|kernel|site|site-quick" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup: this is no Debian: please see to it that these are installed: $packages" >&2
    exit 0
fi

# missing prints those of the packages that are not installed.
missing() {
    # shellcheck disable=SC2086 # a list of words
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $packages 2>/dev/null || true)
    for package in $packages; do
        case "
$installed
" in
        *"
$package installed
"*) ;;
        *) printf '%s ' "$package" ;;
        esac
    done
}

need=$(missing)
[ -n "$need" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "setup: not installed: $need" >&2
    echo "setup: run this as root, or: apt-get install --no-install-recommends $need" >&2
    exit 1
fi
echo "setup: installing $need"
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
# shellcheck disable=SC2086 # a list of words
apt-get -q -y --no-install-recommends install $need
