# shellcheck shell=bash
# Turn command-line options into the variables of the script that sources this file:
#
#   nj=4
#   dir=exp/las
#   help_message="usage: ..."
#   . utils/parse_options.sh    # --nj 8 --dir exp/other
#
# The rules are those of Kaldi's script of this name:
#   --name value           never --name=value; dashes in the name equal underscores
#   only known variables   an option has to be defined above, as a variable
#   true or false          nothing else for a variable that is true or false
#   --config FILE          is sourced first, so that the command line wins; each line is empty, a
#                          comment or name=value; paths are relative to the folder of the recipe
#   --help                 prints $help_message
# What follows the options stays in $1, $2, ...

_parse_options_fail() {
  echo "$0: $1" >&2
  [ -z "${help_message:-}" ] || echo "$0 --help lists the options" >&2
  exit 2
}

for ((_parse_index = 1; _parse_index <= $#; _parse_index++)); do
  case "${!_parse_index}" in
    --config)
      _parse_index=$((_parse_index + 1))
      [ $_parse_index -le $# ] || _parse_options_fail "--config: the file is missing"
      _parse_file=${!_parse_index}
      if [[ $_parse_file != /* && -r ${caller_dir:-.}/$_parse_file ]]; then
        _parse_file=${caller_dir:-.}/$_parse_file # where the user stands, not the recipe
      fi
      [ -r "$_parse_file" ] || _parse_options_fail "--config $_parse_file: cannot read it"
      _parse_line=$(grep -nvE '^[[:space:]]*(#|$|[A-Za-z_][A-Za-z0-9_]*=)' "$_parse_file" | head -n 1)
      [ -z "$_parse_line" ] || _parse_options_fail "--config $_parse_file:$_parse_line: expected name=value (bash)"
      # shellcheck source=/dev/null
      . "$_parse_file" || _parse_options_fail "--config $_parse_file: not bash; see above"
      unset _parse_file _parse_line
      ;;
    --help | -h) ;; # has no value; any other option has one, which is not looked at here
    --*) _parse_index=$((_parse_index + 1)) ;;
    *) break ;;
  esac
done
unset _parse_index

while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h)
      printf '%b\n' "${help_message:-$0: no help for this script}"
      exit 0
      ;;
    --config)
      shift 2
      ;;
    --*=*)
      _parse_options_fail "$1: write it with a space, as --name value"
      ;;
    --)
      shift
      break
      ;;
    --*)
      _parse_name=${1#--}
      _parse_name=${_parse_name//-/_}
      [[ $_parse_name =~ ^[A-Za-z][A-Za-z0-9_]*$ && -n ${!_parse_name+defined} ]] ||
        _parse_options_fail "$1: no such option"
      [ $# -ge 2 ] || _parse_options_fail "$1: the value is missing"
      case "${!_parse_name}:$2" in
        true:true | true:false | false:true | false:false) ;;
        true:* | false:*) _parse_options_fail "$1 $2: expected true or false" ;;
      esac
      printf -v "$_parse_name" '%s' "$2" 2>/dev/null || _parse_options_fail "$1: no such option"
      unset _parse_name
      shift 2
      ;;
    -?*)
      _parse_options_fail "$1: options begin with two dashes"
      ;;
    *) break ;;
  esac
done
unset -f _parse_options_fail
