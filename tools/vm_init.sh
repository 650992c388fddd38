#!/bin/sh
# The first process of the test bed's virtual machine (tools/vm.py), from its initramfs: makes the root and hands over.
# The root is an overlay: a tmpfs, a copy of the tree, and the host's root, which is mounted read-only over 9p. Everything
# can be written, and nothing of it reaches the host. /bed/settings has: TREE, INIT (plain or systemd).
export PATH=/bin

fail() {
    echo "test bed: $*"
    # QEMU ends with -no-reboot.
    reboot -f
}

/bin/busybox mkdir -p /proc /sys /dev /lower /layer /root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
. /bed/settings

while read -r module; do
    insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

# cache=loose: the host's files are taken not to change while the guest runs, which makes executions many times faster.
mount -t 9p -o ro,trans=virtio,version=9p2000.L,access=any,cache=loose,msize=262144 host /lower ||
    fail "cannot mount the host's root"
mount -t tmpfs -o mode=755,size=75% tmpfs /layer && mkdir /layer/upper /layer/work || fail "cannot mount a tmpfs"
mkdir /layer/tree
tar -x -f /tree.tar -C /layer/tree && rm /tree.tar || fail "cannot unpack the tree"
mount -t overlay -o "lowerdir=/layer/tree:/lower,upperdir=/layer/upper,workdir=/layer/work" overlay /root ||
    fail "cannot mount the overlay"
mkdir -p /layer/whole && mount --bind /root /layer/whole

for folder in proc sys dev run tmp; do
    mkdir -p "/root/$folder"
done
mount -t tmpfs -o mode=755 tmpfs /root/run
mount -t tmpfs -o mode=1777 tmpfs /root/tmp
# A tree below /tmp or /run is under the two that were just mounted.
if ! [ -e "/root$TREE/tools/vm.py" ]; then
    mkdir -p "/root$TREE" && mount --bind "/layer/whole$TREE" "/root$TREE" || fail "cannot show $TREE"
fi
umount /layer/whole

mkdir /root/run/ocirt-vm
cp -a /bed/. /bin/busybox /root/run/ocirt-vm/

if [ "$INIT" = systemd ]; then
    mkdir -p /root/run/systemd
    cp -a /units /root/run/systemd/system
    # By it systemd would take itself to be in a container, and not read the kernel's command line.
    rm -f /root/.dockerenv
    init=/lib/systemd/systemd
else
    for link in fd: stdin:/0 stdout:/1 stderr:/2; do
        ln -s "/proc/self/fd${link#*:}" "/dev/${link%:*}"
    done
    mkdir /dev/pts /dev/shm /dev/mqueue
    mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount -t mqueue mqueue /dev/mqueue
    mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup || fail "cannot mount cgroup v2"
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || fail "cannot enable the $controller controller"
    done
    mount -t bpf bpf /sys/fs/bpf
    mount -t securityfs securityfs /sys/kernel/security
    ip link set lo up
    hostname ocirt-vm
    init=/run/ocirt-vm/session.sh
fi
mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
exec switch_root /root "$init" </root/dev/null
