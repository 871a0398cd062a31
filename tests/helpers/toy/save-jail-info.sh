#!/bin/sh
# In the background, and still at it when the stop is over: a file in the system directory, wherever that is by then.
. "${0%/*/*}/cbsd.subr"

while [ -e "$distdir/held" ]; do
	sleep 0.05
done
rcconf || exit 0
"$userland/sqlro" "$jailsysdir/$jname/local.sqlite" 'SELECT created FROM settings' >/dev/null 2>&1
echo "{ \"id\": \"$jname\", \"emulator\": \"$emulator\" }" | "$userland/put" "$jailsysdir/$jname/stats.json"
