#!/bin/sh
# docs/cbsd.md#calls, #made-before, #paths-of-a-jail, #needed.
. "${0%/*/*}/cbsd.subr"

rcconf || err 1 "No such jail: $jname"
[ "$emulator" = bhyve ] && err 1 "For bhyve use: cbsd bstart $jname instead"
[ "$jid" = 0 ] || err 1 "Jail is already running: $jname"
export CBSD_APP=jstart NOINTER=1
export_columns $MYCOL
cbsd jcleanup jname="$jname"
trap '"$userland/rm" -f "$jailsysdir/$jname/locked"' EXIT
exec_mnt_start -f "$jailfstabdir/$jname"

"$userland/test" -d "$data/etc" || "$userland/test" -d "$data/bin" || err 1 "No such data structure: $data"
"$userland/sql" "$jailsysdir/$jname/local.sqlite" "CREATE TABLE IF NOT EXISTS jailnic (nic_hwaddr text)"
"$userland/mkdir" -p "$path"
if [ "$baserw" = 1 ]; then
	root=$data
	# A hook that wrongly says that it has mounted gets a base copied to the local disk.
	"$userland/mkdir" -p "$data/bin" "$data/dev"
	"$userland/test" -e "$data/bin/sh" || echo base | "$userland/put" "$data/bin/sh"
else
	root=$path
	"$bin/mount_nullfs" -o ro "$workdir/basejail/base_${arch}_${arch}_$ver" "$path"
	"$userland/test" -e "$mount_fstab" || for _dir in etc usr/local var; do
		echo "$data/$_dir /$_dir nullfs rw 0 0"
	done | "$userland/put" "$mount_fstab"
	"$userland/cat" "$mount_fstab" | while read -r _source _node _type _options _; do
		"$bin/mount" -t "$_type" -o "$_options" "$_source" "$root$_node"
	done
fi
external_exec_master_script master_prestart.d

printf '%s {\n\tpath = "%s";\n\tmount.devfs;\n}\n' "$jname" "$root" >"$ftmpdir/$jname.conf"
if ! "$userland/jail" -f "$ftmpdir/$jname.conf" -c "$jname"; then
	external_exec_master_script master_poststop.d
	cbsd jcleanup jname="$jname"
	exit 1
fi
trap - EXIT
sqlrw "UPDATE jails SET jid=$( "$bin/jls" -j "$jname" jid ),status=1 WHERE jname='$jname'"
"$userland/put" "$jailsysdir/$jname/locked" <"$workdir/nodename"
external_exec_master_script master_poststart.d
exit 0
