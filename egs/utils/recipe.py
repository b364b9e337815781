"""Exit codes and messages of the Python steps of recipes."""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from asr.errors import EXIT_USAGE, InputError

SHOWN = 10


def run(main: Callable[[list[str]], int], program: str = Path(sys.argv[0]).name) -> None:
    """Run a step and exit; bad input is reported in one line, without a traceback."""
    try:
        code = main(sys.argv[1:])
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        code = EXIT_USAGE
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted; the same command goes on", file=sys.stderr)
        code = 130
    sys.exit(code)


def refuse(problems: list[str], where: Path) -> None:
    """Stop if there are problems.

    Raises:
        InputError: names the first problems and their number.
    """
    if problems:
        more = len(problems) - SHOWN
        shown = problems[:SHOWN] + ([f"... and {more} more"] if more > 0 else [])
        raise InputError(f"{where}: {len(problems)} problems:\n  " + "\n  ".join(shown))


def set_aside(path: Path) -> None:
    """Rename a data directory that the corpus does not have: it is of an earlier corpus."""
    if path.is_dir():
        aside = path.rename(f"{path}.{datetime.now():%Y-%m-%d-%H%M%S}")
        print(f"{path}: of another corpus, renamed to {aside.name}")
