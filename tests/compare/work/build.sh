# go build of a small module with one dependency. Sources, the program and go's
# own temporary files are on the mount, the cache of compiled packages is not.
set -eu
case $1 in
setup)
	cp -r "$IN/module" module
	mkdir module/tmp
	# What no cache knows is compiled.
	for f in module/md2man.go module/md2man/roff.go module/vendor/github.com/russross/blackfriday/v2/doc.go; do
		printf '\n// %s\n' "$NONCE" >>$f
	done
	;;
run)
	cd module
	CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=vendor GOTMPDIR=$PWD/tmp go build -o prog .
	printf '# t(1)\n' >in.md
	./prog -in in.md -out out.1
	grep -q TH out.1
	;;
esac
