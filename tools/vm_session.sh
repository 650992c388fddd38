#!/run/ocirt-vm/busybox sh
# Runs the test bed's command in the guest (tools/vm.py), its output going to the host through ports of virtio-console,
# and reports how it ended. It is the first process, or a service of systemd's.
bed=/run/ocirt-vm
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/root LANG=C.UTF-8 TERM=dumb USER=root OCIRT_VM=1

port() {
    for folder in /sys/class/virtio-ports/*; do
        read -r name <"$folder/name"
        [ "$name" != "ocirt.$1" ] || echo "/dev/${folder##*/}"
    done
}

# A port is opened by one process at a time, while a command may want to open its /dev/stdout anew: hence the pipes.
busybox="$bed/busybox"
"$busybox" mkfifo "$bed/stdout" "$bed/stderr"
"$busybox" cat <"$bed/stdout" >"$(port stdout)" &
stdout=$!
"$busybox" cat <"$bed/stderr" >"$(port stderr)" &
stderr=$!
exec 3>"$(port result)"
read -r up _ </proc/uptime
echo "up $up" >&3
/bin/sh "$bed/command.sh" </dev/null >"$bed/stdout" 2>"$bed/stderr" 3>&-
status=$?

# What the command left running may hold the pipes open for ever.
for _ in 0 1 2 3 4 5 6 7 8 9; do
    [ -d "/proc/$stdout" ] || [ -d "/proc/$stderr" ] || break
    "$busybox" sleep 0.2
done
echo "exit $status" >&3
# The host ends the machine now.
"$busybox" sleep 1000
