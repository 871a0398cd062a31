#!/bin/sh
# What a hook in plain sh(1) amounts to, for tools/bench.py to measure the other one against: df(1) says whether a
# directory is mounted, timeout(1) bounds each mount command, one directory after the other, nothing is taken back.
. "$SAMPLE_CONF"

while getopts d:f:j:r:s: option; do
	case $option in
	d) data=$OPTARG ;;
	f) fstab=$OPTARG ;;
	j) name=$OPTARG ;;
	r) rcconf=$OPTARG ;;
	s) system=$OPTARG ;;
	*) exit 1 ;;
	esac
done

mounted() {
	[ "$(df -P "$1" | tail -n +2 | awk '{ print $6 }')" = "$1" ]
}

bring() {
	if mounted "$2"; then
		echo "[debug] $2 already mounted!" >&2
		return 0
	fi
	timeout "$MOUNT_TIMEOUT" mount --bind -o rw "$ROOT_DIR/$1/$name" "$2" || exit $?
}

bring data "$data"
bring system "$system"
bring rcconf "$rcconf/$name"
bring fstab "$fstab"
