#!/bin/sh
# Installs the binaries of DIR with manual pages and completions below
# $DESTDIR$PREFIX, or removes them.
#
#   scripts/install.sh DIR
#   scripts/install.sh --remove
set -eu

prefix=${DESTDIR-}${PREFIX:-/usr/local}
binaries="dougong containerd-shim-dougong-v2 dougong-agent"
bash=$prefix/share/bash-completion/completions/dougong
zsh=$prefix/share/zsh/site-functions/_dougong
fish=$prefix/share/fish/vendor_completions.d/dougong.fish
example=$prefix/share/doc/dougong/config.toml

if [ "${1-}" = --remove ]; then
    for name in $binaries dougong-crun; do
        rm -f "$prefix/bin/$name"
    done
    rm -f "$prefix"/share/man/man1/dougong.1 "$prefix"/share/man/man1/dougong-*.1 "$bash" "$zsh" "$fish" "$example"
    rm -rf "$prefix/lib/dougong/kernel"
    rmdir "$prefix/share/doc/dougong" "$prefix/lib/dougong" 2>/dev/null || true
    exit 0
fi

dir=${1:?usage: scripts/install.sh DIR}
install -d "$prefix/bin" "$prefix/share/man/man1"
for name in $binaries; do
    install -m 755 "$dir/$name" "$prefix/bin/$name"
done
# The guest's static crun comes along. Where it cannot be built, guests get the
# distribution's, which needs no copy.
crun=$("$(dirname "$0")/build-crun.sh" "$dir/../crun")
case $crun in
/usr/*) ;;
*) install -m 755 "$crun" "$prefix/bin/dougong-crun" ;;
esac
# So does the trimmed guest kernel, where 'make kernel' has built it.
rm -rf "$prefix/lib/dougong/kernel"
if [ -d "$dir/../kernel-trimmed/current/boot" ]; then
    install -d "$prefix/lib/dougong/kernel/boot"
    install -m 644 "$dir"/../kernel-trimmed/current/boot/* "$prefix/lib/dougong/kernel/boot/"
fi
"$dir/dougong" man "$prefix/share/man/man1"
completion() {
    install -d "$(dirname "$2")"
    "$dir/dougong" completion "$1" >"$2"
}
completion bash "$bash"
completion zsh "$zsh"
completion fish "$fish"
install -d "$(dirname "$example")"
"$dir/dougong" config >"$example"
echo "installed in $prefix; next: dougong guest build, dougong check"
