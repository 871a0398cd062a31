#!/bin/sh
# docs/cbsd.md#directory-hooks.
. "${0%/*/*}/cbsd.subr"

rcconf || err 1 "No such jail: $jname"
[ "$jid" = 0 ] && err 1 "Not Running: $jname"
[ "$status" = 3 ] && err 1 "Jail in maintenance mode"
[ "$emulator" = bhyve ] && err 1 "For bhyve jail use: cbsd bstop $jname instead"
[ "$baserw" = 1 ] && path=$data

external_exec_master_script master_prestop.d
"$userland/jail" -f "$ftmpdir/$jname.conf" -r "$jname"
external_exec_master_script master_poststop.d
sqlrw "UPDATE jails SET jid=0,status=0 WHERE jname='$jname'"
"$userland/rm" -f "$jailsysdir/$jname/locked"
cbsd jcleanup jname="$jname"
"$userland/daemonize" "$distdir/tools/save-jail-info" jname="$jname"
rm -f "$ftmpdir/$jname.conf"
exit 0
