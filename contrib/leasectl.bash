# bash completion for leasectl
_leasectl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} socket=/run/leased/admin.sock i word='' words=''

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-s | --socket) socket=${COMP_WORDS[++i]} ;;
		-*) ;;
		*) word=${word:-${COMP_WORDS[i]}} ;;
		esac
	done
	case $prev in
	-s | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return ;;
	esac
	case $cur in
	-*) words='-s --socket --json --no-header --watch -h --help -V --version' ;;
	*)
		case $word in
		'') words='show snapshot drain resume refresh shutdown ping help' ;;
		show) words='clients credentials limits listeners pools servers snapshot state stats version workers' ;;
		shutdown) words='graceful immediate' ;;
		refresh) words=$(leasectl -s "$socket" --no-header show credentials 2>/dev/null | awk '{ print $1 }') ;;
		drain | resume) words=$(leasectl -s "$socket" --no-header show pools 2>/dev/null | awk '{ print $1 }') ;;
		esac ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _leasectl leasectl
