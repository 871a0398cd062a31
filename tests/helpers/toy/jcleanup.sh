#!/bin/sh
# docs/cbsd.md#jcleanup.
. "${0%/*/*}/cbsd.subr"

rcconf || exit 0
if [ "$jid" != 0 ]; then
	"$userland/jail" -r "$jid"
	sqlrw "UPDATE jails SET jid=0 WHERE jname='$jname'"
fi
[ "$baserw" = 1 ] && path=$data
umount_cdirs "$path"
"$userland/rm" -f "$jailsysdir/$jname/locked"
exit 0
