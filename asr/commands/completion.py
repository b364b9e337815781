"""Print a script that completes verbs and options in a shell.

Append the script to a file that your shell reads.

Examples:
    asr completion bash >> ~/.bash_completion
    asr completion zsh >> ~/.zshrc
"""

import contextlib
import io
import re
from importlib import import_module

from asr.commands import VERBS
from asr.config.help import Parser
from asr.errors import EXIT_OK

BASH = """\
_asr() {{
  [ -z "$BASH_VERSION" ] || {{ local -; set -f; }} # no wildcards in the names of files
  local word=${{COMP_WORDS[COMP_CWORD]}} verbs= options= IFS=$' \\t\\n'
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{more}
  esac
  [ "$COMP_CWORD" -gt 1 ] || verbs="{verbs}"
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif [ "$COMP_CWORD" -le 2 ] && [ -n "$verbs" ]; then
    COMPREPLY=($(compgen -W "$verbs" -- "$word"))
  else
    IFS=$'\\n'
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _asr asr"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def main(argv: list[str]) -> int:
    """Run ``asr completion``; return the exit code."""
    parser = Parser("asr completion", description=__doc__)
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell")
    shell = parser.parse_args(argv).shell
    print((ZSH if shell == "zsh" else "") + script())
    return EXIT_OK


def script() -> str:
    """Return the bash function, which zsh reads, too."""
    cases, more = list[str](), list[str]()
    for verb in VERBS:
        words = listed(verb)
        verbs = [word for word in words if not word.startswith("-")]
        cases.append(f'    {verb}) verbs="{" ".join(verbs)}" options="{_options(words)}" ;;')
        more += [f'    "{verb} {v}") options="{_options(listed(verb, v))}" ;;' for v in verbs]
    return BASH.format(verbs=" ".join(VERBS), cases="\n".join(cases), more="\n".join(more))


def _options(words: list[str]) -> str:
    return " ".join(word for word in words if word.startswith("-"))


def listed(verb: str, *verbs: str) -> list[str]:
    """Return the options and the verbs that the help of a verb lists, or that of a verb of it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        import_module(f"asr.commands.{verb}").main([*verbs, "--help-all"])
    found = re.findall(r"^  (?:-\w, )?(--[\w.-]+|[a-z][\w-]+(?= {2,}))", out.getvalue(), flags=re.M)
    return sorted({*found, "--help", "--help-all"})
