# Made by: make docs
complete envstart \
	'c/--/(address base bridge changed data dir dry-run env fstab gateway grace help hooks id json level list nagios preempt print-fstab prometheus rcconf remount running stop system timeout workdir)/' \
	'c/-/(c d f h j l n r s v w)/' \
	'n/-d/x:VALUE/' \
	'n/--data/x:VALUE/' \
	'n/-s/x:VALUE/' \
	'n/--system/x:VALUE/' \
	'n/-f/x:VALUE/' \
	'n/--fstab/x:VALUE/' \
	'n/-r/x:VALUE/' \
	'n/--rcconf/x:VALUE/' \
	'n/--grace/x:VALUE/' \
	'n/--timeout/x:VALUE/' \
	'n/--address/x:VALUE/' \
	'n/--bridge/x:VALUE/' \
	'n/--base/x:VALUE/' \
	'n/--gateway/x:VALUE/' \
	'n/--id/x:VALUE/' \
	'n/--dir/x:VALUE/' \
	'n/--hooks/x:VALUE/' \
	'n/-w/d/' \
	'n/--workdir/d/' \
	'n/-c/f/' \
	'n/-l/f/' \
	'n/--list/f/' \
	'n/--prometheus/f/' \
	'n/-j/x:NAME/' \
	'n/--env/x:NAME/' \
	'n/--level/(table read write)/' \
	'n/config/(show check sample)/' \
	'p/1/(start stop plan status check recover orphans doctor install uninstall jailconf config -h --help --version)/' \
	'p/*/(ceph geli gluster hast iscsi nfs nullfs rbd)/'
