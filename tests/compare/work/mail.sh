# A mail spool: maildir deliveries (write to tmp, link into new, remove from tmp),
# a reader who moves messages on and deletes some, and a mailbox file that is
# appended to. Without fsync.
set -eu
case $1 in
setup)
	mkdir mail mail/tmp mail/new mail/cur
	: >mbox
	;;
run)
	i=0
	while [ $i -lt "$SIZE" ]; do
		i=$((i + 1))
		{
			printf 'From: a@example.org\nSubject: message %d\n\n' $i
			cat "$IN/text"
		} >mail/tmp/$i
		ln mail/tmp/$i mail/new/$i
		rm mail/tmp/$i
		printf 'From a@example.org\nSubject: message %d\n\nshort\n\n' $i >>mbox
		if [ $((i % 3)) = 0 ]; then
			mv mail/new/$i mail/cur/$i:2,S
			if [ $((i % 6)) = 0 ]; then rm mail/cur/$i:2,S; fi
		fi
	done
	;;
esac
