#!/bin/sh
# Installs the system packages that ocirt's build (setup.sh build), also the standalone binary (setup.sh binary) or its
# tests (setup.sh test), or also those in a virtual machine (setup.sh vm), in container engines (setup.sh engines) or in a
# browser (setup.sh browser) need.
# Does nothing where all are there; without root, it names what is missing and fails. Never asks.
set -eu

build="gcc libc6-dev musl-tools linux-libc-dev libseccomp-dev libcap-dev pkg-config python3-dev python3-venv busybox-static"
test="$build runc crun uidmap debootstrap iproute2 procps util-linux clang clang-format libclang-rt-dev"
test="$test systemd libpam-systemd dbus dbus-user-session zsh fish man-db groff"
# the static libraries, apt-get source, and what tells which code runs
binary="$build libpython3-dev libffi-dev zlib1g-dev dpkg-dev util-linux valgrind"
# Podman 4's networks are those of the CNI plugins; tini is Docker's init.
engines="$test containerd docker.io podman conmon buildah containernetworking-plugins tini"
# apparmor: what loads a profile into the kernel
vm="$test qemu-system-x86 linux-image-amd64 apparmor"
browser="chromium-headless-shell fonts-dejavu-core"

case "${1:-}" in
browser) wanted=$browser ;;
build) wanted=$build ;;
test) wanted=$test ;;
binary) wanted=$binary ;;
engines) wanted=$engines ;;
vm) wanted=$vm ;;
*)
    echo "usage: $0 build|binary|test|engines|vm|browser" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "setup: not a Debian system; needed are the equivalents of: $wanted" >&2
    exit 0
fi

# The sanitizers' run-time library has the compiler's version in its package's name.
clang_runtime() {
    version=$(apt-cache show clang 2>/dev/null | sed -n 's/^Depends:.*clang-\([0-9][0-9]*\).*/\1/p' | head -n 1)
    [ -n "$version" ] && echo "libclang-rt-$version-dev"
}

missing_of() {
    for package in $1; do
        if [ "$package" = libclang-rt-dev ]; then
            ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.asan-*.a >/dev/null 2>&1 || echo "$package"
        else
            dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || echo "$package"
        fi
    done
}

missing=$(missing_of "$wanted" | tr '\n' ' ')
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "setup: missing packages: $missing" >&2
    echo "setup: install them as root: apt-get install --no-install-recommends $missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
echo "setup: installing $missing"
apt-get update -q </dev/null
missing=$(echo "$missing" | sed "s/libclang-rt-dev/$(clang_runtime)/")
# shellcheck disable=SC2086  # a list of package names
apt-get install -q -y --no-install-recommends $missing </dev/null
