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

# mount9 ADDRESS PORT OPTIONS DIR: a v9fs mount over TCP.
mount9() {
	mkdir -p "$4"
	mount -t 9p -o "trans=tcp,port=$2,version=9p2000.L,access=client,aname=${ANAME:-/},$3" "$1" "$4"
}
