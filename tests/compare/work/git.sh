# A repository: init, add, and commits of edits. git does not fsync for them.
set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
case $1 in
setup)
	mkdir repo
	cp -r "$IN/small" repo/small
	;;
run)
	cd repo
	git init -q -b main .
	git config gc.auto 0
	git add .
	git commit -q -m first
	i=0
	while [ $i -lt "$SIZE" ]; do
		i=$((i + 1))
		for f in $(git ls-files | sed -n "$i~13p" | head -3); do echo "// edit $i" >>"$f"; done
		git commit -q -a -m "edit $i"
	done
	[ "$(git rev-list --count HEAD)" = $((SIZE + 1)) ]
	;;
esac
