# shellcheck shell=bash disable=SC2207
# Made by: make docs
_envstart_names() {
	local dir='' word last=''
	for word in "${COMP_WORDS[@]}"; do
		case $last in -w|--workdir) dir=$word ;; esac
		last=$word
	done
	[ -n "$dir" ] || dir=$(sed -n 's/^cbsd_workdir="\{0,1\}\([^"]*\).*/\1/p' /etc/rc.conf 2>/dev/null)
	command ls "$dir/jails-system" 2>/dev/null
}

_envstart() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb='' word
	case $prev in
	-d|--data|-s|--system|-f|--fstab|-r|--rcconf|--grace|--timeout|--address|--bridge|--base|--gateway|--id|--dir|--hooks)
		COMPREPLY=()
		return
		;;
	-w|--workdir)
		COMPREPLY=($(compgen -d -- "$cur"))
		return
		;;
	-c|-l|--list|--prometheus)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	-j|--env)
		COMPREPLY=($(compgen -W "$(_envstart_names)" -- "$cur"))
		return
		;;
	--level)
		COMPREPLY=($(compgen -W "table read write" -- "$cur"))
		return
		;;
	esac
	for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
		case $verb:$word in
		*:-*) ;;
		:start) verb='start' ;;
		:stop) verb='stop' ;;
		:plan) verb='plan' ;;
		:status) verb='status' ;;
		:check) verb='check' ;;
		:recover) verb='recover' ;;
		:orphans) verb='orphans' ;;
		:doctor) verb='doctor' ;;
		:install) verb='install' ;;
		:uninstall) verb='uninstall' ;;
		:jailconf) verb='jailconf' ;;
		:config) verb='config' ;;
		config:show) verb='config show' ;;
		config:check) verb='config check' ;;
		config:sample) verb='config sample' ;;
		esac
	done
	case $verb in
	'') COMPREPLY=($(compgen -W "start stop plan status check recover orphans doctor install uninstall jailconf config -h --help --version" -- "$cur")) ;;
	'config') COMPREPLY=($(compgen -W "show check sample" -- "$cur")) ;;
	'start') COMPREPLY=($(compgen -W "-h --help -v -c -j --env -d --data -s --system -f --fstab -r --rcconf -l --list -w --workdir -n --dry-run ceph geli gluster hast iscsi nfs nullfs rbd" -- "$cur")) ;;
	'stop') COMPREPLY=($(compgen -W "-h --help -v -c -j --env -d --data -s --system -f --fstab -r --rcconf -l --list -w --workdir -n --dry-run ceph geli gluster hast iscsi nfs nullfs rbd" -- "$cur")) ;;
	'plan') COMPREPLY=($(compgen -W "-h --help -v -c -j --env -d --data -s --system -f --fstab -r --rcconf -l --list -w --workdir --stop ceph geli gluster hast iscsi nfs nullfs rbd" -- "$cur")) ;;
	'status') COMPREPLY=($(compgen -W "-h --help -v -c -w --workdir -j --env -d --data -s --system -f --fstab -r --rcconf -l --list --json ceph geli gluster hast iscsi nfs nullfs rbd $(_envstart_names)" -- "$cur")) ;;
	'check') COMPREPLY=($(compgen -W "-h --help -v -c -w --workdir -j --env -d --data -s --system -f --fstab -r --rcconf -l --list --level --json --nagios --prometheus --changed ceph geli gluster hast iscsi nfs nullfs rbd $(_envstart_names)" -- "$cur")) ;;
	'recover') COMPREPLY=($(compgen -W "-h --help -v -c -w --workdir -j --env -d --data -s --system -f --fstab -r --rcconf -l --list -n --dry-run --remount --running --preempt ceph geli gluster hast iscsi nfs nullfs rbd $(_envstart_names)" -- "$cur")) ;;
	'orphans') COMPREPLY=($(compgen -W "-h --help -v -w --workdir --stop --grace --timeout $(_envstart_names)" -- "$cur")) ;;
	'doctor') COMPREPLY=($(compgen -W "-h --help -v -w --workdir --json $(_envstart_names)" -- "$cur")) ;;
	'install') COMPREPLY=($(compgen -W "-h --help -v -w --workdir $(_envstart_names)" -- "$cur")) ;;
	'uninstall') COMPREPLY=($(compgen -W "-h --help -v -w --workdir $(_envstart_names)" -- "$cur")) ;;
	'jailconf') COMPREPLY=($(compgen -W "-h --help -v -c --address --bridge --base --gateway --id --dir --hooks --print-fstab $(_envstart_names)" -- "$cur")) ;;
	'config show') COMPREPLY=($(compgen -W "-h --help -v -c -j --env -d --data -s --system -f --fstab -r --rcconf -l --list -w --workdir ceph geli gluster hast iscsi nfs nullfs rbd" -- "$cur")) ;;
	'config check') COMPREPLY=($(compgen -W "-h --help -v -c -j --env -d --data -s --system -f --fstab -r --rcconf -l --list -w --workdir ceph geli gluster hast iscsi nfs nullfs rbd" -- "$cur")) ;;
	'config sample') COMPREPLY=($(compgen -W "-h --help -v -c ceph geli gluster hast iscsi nfs nullfs rbd" -- "$cur")) ;;
	esac
}
complete -F _envstart envstart
