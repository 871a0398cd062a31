#!/bin/sh
# docs/cbsd.md#directory-hooks. It does not ask whether the VM runs: the end of the guest calls it once more.
. "${0%/*/*}/cbsd.subr"

rcconf || err 1 "No such domain: $jname"
[ "$emulator" = bhyve ] || err 1 "Not in bhyve mode"
settings=$jailsysdir/$jname/local.sqlite

external_exec_master_script master_prestop.d
sqlrw "UPDATE jails SET status=3 WHERE jname='$jname'"
[ "$jid" != 0 ] && kill "$jid" 2>/dev/null
"$userland/rm" -f "$jailsysdir/$jname/vnc_port"
"$userland/bhyvectl" --destroy --vm="$jname" 2>/dev/null
sqlrw "UPDATE jails SET status=0 WHERE jname='$jname'"
"$userland/sql" "$settings" "UPDATE settings SET state_time=\"(strftime('%s','now'))\"" 2>/dev/null
sqlrw "UPDATE jails SET jid=0,state_time=\"(strftime('%s','now'))\" WHERE jname='$jname'"
external_exec_master_script master_poststop.d
"$userland/sqlro" "$settings" 'SELECT jailed FROM settings' >/dev/null 2>&1
"$userland/daemonize" "$distdir/tools/save-jail-info" jname="$jname"
exit 0
