"""Exceptions for bad input, helpers for their messages, and exit codes."""

from collections.abc import Iterable

EXIT_OK = 0
EXIT_SOME_FAILED = 1  # some inputs failed; the results of the others were written
EXIT_USAGE = 2  # bad input or bad usage; finished files are complete
EXIT_BUG = 70  # a mistake in asr itself; please report it


class InputError(Exception):
    """Bad input: the message says where, what was found, what was expected, and the remedy.

    The command line prints the message without a traceback and exits with 2. An example::

        data/dev/utt2spk:12: 3 fields, expected "<utt-id> <spk-id>"; remove the extra field
    """


class AudioError(InputError):
    """Audio that cannot be read, or does not match its header."""


class EmptyAudioError(AudioError):
    """Audio without any samples."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type if the message is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 file``, ``2 files``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str], shown: int = 3) -> str:
    """Return the first of some names and the number of the others: ``a, b, c and 7 more``."""
    names = list(names)
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
