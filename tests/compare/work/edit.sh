# An editor's saves over files of three directories. vi writes a new file, having
# moved the old one away, and has a swap file; sed -i writes a temporary file and
# renames it. Called edit: by turns, and without fsync. Called fsync: vi only, as it is.
set -eu
files="a/one.go a/two.go b/three.go b/four.go c/five.go c/six.go"
vi_saves() { # options file
	vi -es -u NONE -i NONE -c "set $1 backupcopy=no directory=." -c "1s,^,// save $i\\r," -c wq "$2"
}
case $1 in
setup)
	mkdir src src/a src/b src/c
	for f in $files; do cp "$IN/text" "src/$f"; done
	;;
run)
	i=0
	while [ $i -lt "$SIZE" ]; do
		i=$((i + 1))
		for f in $files; do
			case $0 in
			fsync) vi_saves fsync "src/$f" ;;
			*)
				if [ $((i % 2)) = 0 ]; then
					sed -i "1s|^|// save $i\\n|" "src/$f"
				else
					vi_saves "nofsync swapsync=" "src/$f"
				fi
				;;
			esac
		done
	done
	;;
esac
