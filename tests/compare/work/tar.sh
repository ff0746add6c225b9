# tar x of a part of Go's own sources.
set -eu
case $1 in
setup)
	mkdir tree
	;;
run)
	tar xf "$IN/tree.tar" -C tree
	;;
esac
