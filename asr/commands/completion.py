"""``asr completion``: what completes verbs and options in bash and zsh."""

import contextlib
import io
import re

from asr.commands import VERBS
from asr.config.help import Parser
from asr.errors import EXIT_OK

BASH = """\
_asr() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}} words=
  if [ "$COMP_CWORD" -eq 1 ]; then words="{verbs}"; else
    case $verb in
{cases}
    esac
  fi
  if [[ $word == -* || $COMP_CWORD -eq 1 ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}}
complete -o filenames -F _asr asr"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def main(argv: list[str]) -> int:
    """Print a script for a shell."""
    parser = Parser(
        prog="asr completion",
        description="Print what completes verbs, options and file names in a shell. Write it to "
        "a file that your shell reads, as in the examples.",
        epilog="examples:\n  asr completion bash >> ~/.bash_completion\n"
        "  asr completion zsh >> ~/.zshrc",
    )
    parser.add_argument("shell", choices=("bash", "zsh"))
    shell = parser.parse_args(argv).shell
    print((ZSH if shell == "zsh" else "") + script())
    return EXIT_OK


def script() -> str:
    """Return the functions of bash; zsh reads them, too."""
    cases = "\n".join(f'      {verb}) words="{" ".join(options(verb))}" ;;' for verb in VERBS)
    return BASH.format(verbs=" ".join(VERBS), cases=cases)


def options(verb: str) -> list[str]:
    """Return the options of a verb, as its help names them."""
    from importlib import import_module

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        import_module(f"asr.commands.{verb}").main(["--help-all"])
    # an option, or the verb of a verb: `asr data import`
    found = re.findall(r"^  (?:-\w, )?(--[\w.-]+|[a-z][\w-]+(?= {2,}))", out.getvalue(), flags=re.M)
    return sorted({*found, "--help", "--help-all"})
