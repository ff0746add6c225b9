# What applications do, on a mounted tree. The library of shcheck is read in before.
#
# S is the tree as the server's host sees it, M as the mount shows it; BIN has
# treehash and probe. SAMPLE is a tar file of the tree, already unpacked in S; REPO
# is a bare git repository. FEATURES are words: mmap (shared writable mappings
# work), build (a Go module can be built here). PARTS are the parts of the tree that are
# compared, all if there are none: few, and the halves src/0 and src/1.

PATH=$BIN:$PATH
export GIT_CONFIG_GLOBAL=$WORK/gitconfig GIT_CONFIG_NOSYSTEM=1
git config --global safe.directory '*'
git config --global user.name tester
git config --global user.email tester@example.com

# sent: what was done on the mount is at the server.
sent() { if [ -e "$M/.echo9/ctl" ]; then echo sync > "$M/.echo9/ctl"; fi; }

tree_equal() {
	: > "$WORK/diff"
	: > "$WORK/names"
	for part in ${PARTS:-.}; do
		# The server's side is the same for all mounts.
		server=$WORK/tree-$(echo "$part" | tr / -)
		[ -e "$server" ] || treehash "$S/tree/$part" > "$server"
		treehash "$M/tree/$part" | diff "$server" - | head -20 >> "$WORK/diff"
		cat "$server" >> "$WORK/names"
	done
	cat "$WORK/diff"
	least=500
	if [ -n "${PARTS:-}" ]; then least=250; fi
	[ ! -s "$WORK/diff" ] && [ "$(wc -l < "$WORK/names")" -gt $least ]
}

cp_in() {
	cp -a "$M/tree/few" "$M/copy"
	treehash "$S/tree/few" "$M/copy"
	sent
	treehash "$S/tree/few" "$S/copy"
}

git_work() {
	git clone -q "$REPO" "$M/clone"
	cd "$M/clone"
	same "$(git status --porcelain)" ""
	echo more >> file1
	same "$(git status --porcelain)" " M file1"
	git commit -qam change
	git fsck --strict
	same "$(git status --porcelain)" ""
	sent
	same "$(git -C "$S/clone" log --oneline | wc -l)" 2
	cd /
}

sql() { sqlite3 -cmd '.timeout 20000' "$@"; }

sqlite_work() { # MODE
	db=$M/$1.db
	same "$(sql "$db" "pragma journal_mode=$1;")" "$1"
	sql "$db" 'create table t(writer, n);'
	pids=
	for w in 1 2; do
		(for n in 1 2 3 4; do sql "$db" "begin immediate; insert into t values($w, $n); commit;" || exit 1; done) &
		pids="$pids $!"
	done
	for p in $pids; do wait "$p"; done
	same "$(sql "$db" 'select count(*), count(distinct writer) from t; pragma integrity_check;')" "8|2
ok"
	sent
	same "$(sqlite3 "$S/$1.db" 'select count(*) from t;')" 8
}

tar_out() {
	mkdir "$M/untar"
	tar -xf "$SAMPLE" -C "$M/untar" tree/few
	treehash "$S/tree/few" "$M/untar/tree/few"
	sent
	treehash "$S/tree/few" "$S/untar/tree/few"
}

rm_tree() {
	cp -a "$M/tree/few" "$M/gone"
	sent
	rm -rf "$M/gone"
	[ ! -e "$M/gone" ]
	sent
	[ ! -e "$S/gone" ]
}

xattrs() {
	echo x > "$M/x"
	setfattr -n user.one -v first "$M/x"
	setfattr -n user.two -v 0x00ff "$M/x"
	same "$(getfattr --only-values -n user.one "$M/x")" first
	same "$(getfattr -d -m user "$M/x" | grep -c ^user)" 2
	setfattr -x user.one "$M/x"
	if getfattr -n user.one "$M/x"; then return 1; fi
	sent
	same "$(getfattr -d -m user "$S/x" | grep -c ^user)" 1
}

hard_links() {
	echo one > "$M/h1"
	ln "$M/h1" "$M/h2"
	same "$(stat -c '%h %i' "$M/h1")" "$(stat -c '%h %i' "$M/h2")"
	echo two >> "$M/h2"
	same "$(cat "$M/h1")" "one
two"
	sent
	same "$(stat -c %h "$S/h1")" 2
	rm "$M/h1"
	same "$(stat -c %h "$M/h2")" 1
}

attributes() {
	echo x > "$M/a"
	chown 1234:4321 "$M/a"
	chmod 4751 "$M/a"
	touch -d '2001-02-03 04:05:06.789' "$M/a"
	truncate -s 12345 "$M/a"
	touch -d '2001-02-03 04:05:06.789' "$M/a"
	ln -s some/where "$M/l"
	mkfifo "$M/fifo"
	sent
	same "$(stat -c '%a %u:%g %s %y' "$M/a")" "$(stat -c '%a %u:%g %s %y' "$S/a")"
	same "$(stat -c '%a %u:%g %s' "$S/a")" '4751 1234:4321 12345' # root's truncate keeps setuid
	same "$(readlink "$S/l")" some/where
	same "$(stat -c %F "$S/fifo")" fifo
	mv "$M/a" "$M/b"
	sent
	[ ! -e "$S/a" ] && [ -e "$S/b" ]
	same "$(df --output=size "$M" | tail -1)" "$(df --output=size "$S" | tail -1)"
}

names() {
	mkdir "$M/names"
	i=0
	while [ $i -lt 300 ]; do
		: > "$M/names/a longer name, with blanks and ünïcode, number $i"
		i=$((i + 1))
	done
	same "$(ls "$M/names" | wc -l)" 300
	long=$(printf 'x%.0s' $(seq 255))
	echo y > "$M/names/$long"
	if echo y > "$M/names/${long}x"; then return 1; fi
	sent
	same "$(ls "$M/names" | sort | sha256sum)" "$(ls "$S/names" | sort | sha256sum)"
	same "$(cat "$S/names/$long")" y
	rm -r "$M/names"
}

big() {
	dd if=/dev/urandom of="$M/big" bs=1M count=20 conv=fsync
	cmp "$M/big" "$S/big"
	dd if="$M/big" of=/dev/null bs=300007
	same "$(sha256sum < "$M/big")" "$(sha256sum < "$S/big")"
}

go_build() {
	mkdir "$M/module"
	cp -r "$MODULE"/. "$M/module"
	cd "$M/module"
	go build -o tool ./cmd
	same "$(./tool)" "built on a mount"
	go vet ./...
	go test ./...
	sent
	cmp tool "$S/module/tool"
	cd /
}

has() { case " $FEATURES " in *" $1 "*) return 0 ;; esac; return 1; }

suite() { # NAME
	check "$1/tree" tree_equal
	check "$1/cp-a" cp_in
	check "$1/git" git_work
	check "$1/sqlite" sqlite_work delete
	check "$1/tar-x" tar_out
	check "$1/rm-rf" rm_tree
	check "$1/xattrs" xattrs
	check "$1/hard-links" hard_links
	check "$1/attributes" attributes
	check "$1/names" names
	check "$1/big" big
	for p in locks unlinked replaced append sparse; do
		check "$1/$p" probe $p "$M/probe"
	done
	if has mmap; then
		check "$1/mmap" probe mmap "$M/probe"
		check "$1/sqlite-wal" sqlite_work wal
	fi
	if has build; then check "$1/go-build" go_build; fi
	check "$1/clean-up" clean_up
}

# clean_up removes what the checks made, through the mount.
clean_up() {
	find "$M" -mindepth 1 -maxdepth 1 ! -name tree -exec rm -rf {} +
	sent
	same "$(ls "$S")" tree
}
