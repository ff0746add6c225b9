# Read in before a guest's script. WORK is the run's directory on the host.

# guest_setup: file systems, loopback, modules.
guest_setup() {
	mount -t proc proc /proc
	mount -t sysfs sys /sys
	mount -t devtmpfs dev /dev 2>/dev/null
	mkdir -p /dev/pts /dev/shm
	mount -t devpts pts /dev/pts
	mount -t tmpfs shm /dev/shm
	mount -t tmpfs -o size=80% mnt /mnt
	mount -t tmpfs run /run
	hostname guest
	ip link set lo up
	if [ -n "$IP" ]; then
		ip addr add "$IP/24" dev vec0
		ip link set vec0 up
	fi
	modules=/usr/lib/uml/modules/$(uname -r)/kernel
	for m in fs/netfs/netfs fs/fscache/fscache net/9p/9pnet net/9p/9pnet_fd fs/9p/9p fs/fuse/fuse; do
		insmod "$modules/$m.ko" || return 1
	done
}

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# check NAME FUNCTION [ARG…]: runs the function in a subshell that ends at the
# first failure, keeps what it prints, and notes how it went. Never fails itself.
check() {
	name=$1
	shift
	mkdir -p "$WORK/checks/$(dirname "$name")"
	t0=$(now_ms)
	( set -ex; "$@" ) > "$WORK/checks/$name" 2>&1
	rc=$?
	if [ $rc = 0 ]; then word=ok; else word=FAIL; echo "exit code $rc" >> "$WORK/checks/$name"; fi
	echo "$word $name $(($(now_ms) - t0))" >> "$WORK/results"
}

# same A B: two texts are equal.
same() {
	if [ "$1" != "$2" ]; then
		echo "not the same: <$1> and <$2>"
		return 1
	fi
}

# wait_port PORT: until something listens on the guest's TCP port.
wait_port() {
	i=0
	hex=$(printf ':%04X 0' "$1")
	until grep -qs "$hex" /proc/net/tcp /proc/net/tcp6; do
		i=$((i + 1))
		[ $i -lt 200 ] || { echo "nothing listens on port $1"; return 1; }
		sleep 0.05
	done
}

# mount9 ADDRESS PORT OPTIONS DIR: a v9fs mount over TCP.
mount9() {
	mkdir -p "$4"
	mount -t 9p -o "trans=tcp,port=$2,version=9p2000.L,access=client,aname=${ANAME:-/},$3" "$1" "$4"
}
