# Shell functions for checks. WORK is a directory for what they come to.

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# check NAME FUNCTION [ARG…]: runs the function in a subshell that ends at the
# first failure, keeps what it prints, and notes how it went. Never fails itself.
check() {
	check_name=$1
	shift
	mkdir -p "$WORK/checks/$(dirname "$check_name")"
	check_began=$(now_ms)
	( set -ex; "$@" ) > "$WORK/checks/$check_name" 2>&1
	check_code=$?
	if [ $check_code = 0 ]; then
		check_word=ok
	else
		check_word=FAIL
		echo "exit code $check_code" >> "$WORK/checks/$check_name"
	fi
	echo "$check_word $check_name $(($(now_ms) - check_began))" >> "$WORK/results"
}

# same A B: two texts are equal.
same() {
	if [ "$1" != "$2" ]; then
		echo "not the same: <$1> and <$2>"
		return 1
	fi
}

# wait_port PORT: until something listens on the TCP port.
wait_port() {
	i=0
	hex=$(printf ':%04X 0' "$1")
	until grep -qs "$hex" /proc/net/tcp /proc/net/tcp6; do
		i=$((i + 1))
		[ $i -lt 200 ] || { echo "nothing listens on port $1"; return 1; }
		sleep 0.05
	done
}
