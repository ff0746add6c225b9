# What applications do, on a kernel mount. Sourced in the guest; runs suite once
# for each mount option set in MOUNTS. SERVE is a command that serves its last
# argument on 127.0.0.1:5640. BIN has treehash and probe. SAMPLE is a tar file of
# the tree, REPO a bare git repository.

PATH=$BIN:$PATH
export GIT_CONFIG_GLOBAL=/mnt/gitconfig
git config --global safe.directory '*'
git config --global user.name tester
git config --global user.email tester@example.com

mkdir -p /mnt/export /mnt/9
mount -t ext4 /dev/ubda /mnt/export || exit 1
mkdir /mnt/export/srv
S=/mnt/export/srv # the tree as the server's host sees it
M=/mnt/9          # as the mount shows it
tar -xf "$SAMPLE" -C $S || exit 1

$SERVE $S > "$WORK/server" 2>&1 &
server=$!
wait_port 5640 || { cat "$WORK/server"; exit 1; }

tree_equal() { treehash $S/tree $M/tree; }

cp_in() {
	cp -a $S/tree/few $M/copy
	treehash $S/tree/few $S/copy
	treehash $S/copy $M/copy
}

git_work() {
	git clone -q "$REPO" $M/clone
	cd $M/clone
	same "$(git status --porcelain)" ""
	echo more >> file1
	same "$(git status --porcelain)" " M file1"
	git commit -qam change
	git fsck --strict
	same "$(git status --porcelain)" ""
	cd /
}

sql() { sqlite3 -cmd '.timeout 20000' "$@"; }

sqlite_work() { # MODE
	db=$M/$1.db
	same "$(sql $db "pragma journal_mode=$1;")" $1
	sql $db 'create table t(writer, n);'
	for w in 1 2; do
		(for n in 1 2 3 4; do sql $db "begin immediate; insert into t values($w, $n); commit;" || exit 1; done) &
		pids="$pids $!"
	done
	for p in $pids; do wait $p; done
	same "$(sql $db 'select count(*), count(distinct writer) from t; pragma integrity_check;')" "8|2
ok"
	same "$(sqlite3 $S/$1.db 'select count(*) from t;')" 8
}

tar_out() {
	mkdir $M/untar
	tar -xf "$SAMPLE" -C $M/untar tree/few
	treehash $S/tree/few $S/untar/tree/few
	treehash $S/tree/few $M/untar/tree/few
}

rm_tree() {
	cp -a $S/tree/few $S/gone
	rm -rf $M/gone
	[ ! -e $S/gone ] && [ ! -e $M/gone ]
}

xattrs() {
	echo x > $M/x
	setfattr -n user.one -v first $M/x
	setfattr -n user.two -v 0x00ff $M/x
	same "$(getfattr --only-values -n user.one $M/x)" first
	same "$(getfattr --only-values -n user.one $S/x)" first
	same "$(getfattr -d -m user $M/x | grep -c ^user)" 2
	setfattr -x user.one $M/x
	if getfattr -n user.one $M/x; then return 1; fi
	same "$(getfattr -d -m user $S/x | grep -c ^user)" 1
}

hard_links() {
	echo one > $M/h1
	ln $M/h1 $M/h2
	same "$(stat -c '%h %i' $M/h1)" "$(stat -c '%h %i' $M/h2)"
	same "$(stat -c %h $S/h1)" 2
	echo two >> $M/h2
	same "$(cat $M/h1)" "one
two"
	rm $M/h1
	same "$(stat -c %h $M/h2)" 1
}

attributes() {
	echo x > $M/a
	chmod 4751 $M/a
	same "$(stat -c %a $S/a)" 4751
	chown 1234:4321 $M/a
	same "$(stat -c %u:%g $S/a)" 1234:4321
	touch -d '2001-02-03 04:05:06.789' $M/a
	same "$(stat -c %y $M/a)" "$(stat -c %y $S/a)"
	truncate -s 12345 $M/a
	same "$(stat -c %s $S/a)" 12345
	ln -s some/where $M/l
	same "$(readlink $S/l)" some/where
	mkfifo $M/fifo
	same "$(stat -c %F $S/fifo)" fifo
	mv $M/a $M/b
	[ ! -e $S/a ] && [ -e $S/b ]
	same "$(df --output=size $M | tail -1)" "$(df --output=size $S | tail -1)"
}

names() {
	mkdir $M/names
	i=0
	while [ $i -lt 300 ]; do
		: > "$M/names/a longer name, with blanks and ünïcode, number $i"
		i=$((i + 1))
	done
	same "$(ls $M/names | sort | sha256sum)" "$(ls $S/names | sort | sha256sum)"
	same "$(ls $M/names | wc -l)" 300
	long=$(printf 'x%.0s' $(seq 255))
	echo y > "$M/names/$long"
	same "$(cat "$S/names/$long")" y
	if echo y > "$M/names/${long}x"; then return 1; fi
	rm -r $M/names
}

big() {
	dd if=/dev/urandom of=$M/big bs=1M count=20 conv=fsync
	cmp $M/big $S/big
	dd if=$M/big of=/dev/null bs=300007
	same "$(sha256sum < $M/big)" "$(sha256sum < $S/big)"
}

suite() { # NAME OPTIONS
	check $1/mount mount9 127.0.0.1 5640 "$2" $M
	mountpoint -q $M || return
	check $1/tree tree_equal
	check $1/cp-a cp_in
	check $1/git git_work
	check $1/sqlite sqlite_work delete
	check $1/tar-x tar_out
	check $1/rm-rf rm_tree
	check $1/xattrs xattrs
	check $1/hard-links hard_links
	check $1/attributes attributes
	check $1/names names
	check $1/big big
	for p in locks unlinked replaced append sparse; do
		check $1/$p probe $p $M/probe
	done
	case $2 in *cache=mmap*)
		check $1/mmap probe mmap $M/probe
		check $1/sqlite-wal sqlite_work wal
		;;
	esac
	check $1/umount umount $M
	(cd $S && find . -maxdepth 1 ! -name . ! -name tree ! -name .echo9 -exec rm -rf {} +)
}

for m in $MOUNTS; do
	suite "$(echo "$m" | tr -d = | tr , -)" "$m"
done
kill $server
wait $server
umount /mnt/export || { sleep 1; umount /mnt/export; }
