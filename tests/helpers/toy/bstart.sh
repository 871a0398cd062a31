#!/bin/sh
# docs/cbsd.md#calls, #made-before, #stubs.
. "${0%/*/*}/cbsd.subr"

rcconf || err 1 "No such domain: $jname"
[ "$emulator" = bhyve ] || err 1 "Not in bhyve mode"
[ -e "$machine/dev/vmm/$jname" ] && err 1 "Already running: $jname"
settings=$jailsysdir/$jname/local.sqlite
# Absent, it is passed over: the hook is to bring it. Present and without the row, it stops everything.
fetch()
{
	! "$userland/test" -e "$settings" || [ -n "$( "$userland/sqlro" "$settings" 'SELECT created FROM settings' )" ]
}
fetch || err 1 "Unable to fetch vm data from: $settings"
export CBSD_APP=bstart NOINTER=1
export_columns $MYCOL $VMCOL
exec_mnt_start
fetch || err 1 "Unable to fetch vm data from: $settings"

disk=$data/dsk1.vhd
"$userland/test" -e "$disk" || err 1 "No such disk: $disk"
external_exec_master_script master_prestart.d
vm_pid=$( "$userland/bhyverun" "$jname" "$disk" ) || err 1 "Unable to start: $jname"
sqlrw "UPDATE jails SET jid=$vm_pid,status=1 WHERE jname='$jname'"
"$userland/put" "$jailsysdir/$jname/locked" <"$workdir/nodename"
external_exec_master_script master_poststart.d
exit 0
