"""The one exception that users see, helpers for its messages, and exit codes."""

from collections.abc import Iterable

EXIT_OK = 0
EXIT_SOME_FAILED = 1  # some inputs failed; the results of the others were written
EXIT_USAGE = 2  # bad input or bad usage; nothing was done


class InputError(Exception):
    """Bad input from the user: says where, what was found, what was expected, the remedy.

    The command line prints the message alone, without a traceback, and exits with 2.
    Example of a message::

        data/dev/utt2spk:12: 3 fields, expected "<utt-id> <spk-id>"; remove the extra field
    """


class AudioError(InputError):
    """Audio that cannot be read, or is not what its header promises."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def counted(number: int, noun: str) -> str:
    """A number and its noun: ``1 file``, ``2 files``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str], shown: int = 3) -> str:
    """The first of some names, and how many more there are: ``a, b, c and 7 more``."""
    names = list(names)
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
