# Runs in the guest: a server on an ext4 disk, mounts with the kernel's client,
# and the suite on each. MOUNTS are mount options; FACE is what is mounted: the
# server, or a cache of it.

mkdir -p /mnt/export /mnt/9
mount -t ext4 /dev/ubda /mnt/export || exit 1
mkdir /mnt/export/srv
S=/mnt/export/srv
M=/mnt/9
tar -xf "$SAMPLE" -C $S || exit 1
export XDG_RUNTIME_DIR=/run

$ECHO9 serve --listen 127.0.0.1:5640 --as client $S > "$WORK/server" 2>&1 &
server=$!
wait_port 5640 || { cat "$WORK/server"; exit 1; }
port=5640
if [ "$FACE" = cache ]; then
	$ECHO9 cache --listen 127.0.0.1:5641 --as client 127.0.0.1:5640 > "$WORK/cache" 2>&1 &
	cache=$!
	wait_port 5641 || { cat "$WORK/cache"; exit 1; }
	port=5641
fi

. "$SUITE"

half=0
for m in $MOUNTS; do
	if [ -n "$HALVES" ]; then PARTS="few src/$half"; fi
	half=$(((half + 1) % 2))
	name=$FACE-$(echo "$m" | tr -d = | tr , -)
	check $name/mount mount9 127.0.0.1 $port "$m" $M
	mountpoint -q $M || continue
	FEATURES=
	case $m in *cache=mmap*) FEATURES=mmap ;; esac
	suite $name
	check $name/umount umount $M
done

ends_well() { kill "$1"; wait_gone "$1"; }
wait_gone() {
	i=0
	while kill -0 "$1" 2> /dev/null; do
		i=$((i + 1))
		[ $i -lt 200 ] || return 1
		sleep 0.05
	done
}
if [ "$FACE" = cache ]; then check $FACE/cache-ends ends_well $cache; fi
check $FACE/server-ends ends_well $server
for log in server cache; do
	if [ -e "$WORK/$log" ]; then echo "--- $log"; cat "$WORK/$log"; fi
done
umount /mnt/export || { sleep 1; umount /mnt/export; }
