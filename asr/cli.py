"""``asr VERB``: imports only the file of the verb, so that help is fast."""

import contextlib
import difflib
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module

from asr.commands import GROUPS, VERBS, summary
from asr.errors import EXIT_BUG, EXIT_USAGE, InputError
from asr.terminal import Quiet, guarded

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def usage() -> str:
    """Return the text of ``asr --help``."""
    width = max(map(len, VERBS))
    groups = (
        "\n".join([f"{title}:", *(f"  {verb:{width}}  {summary(verb)}" for verb in verbs)])
        for title, verbs in GROUPS.items()
    )
    verbs = "\n\n".join(groups)
    return (
        "usage: asr [--quiet] VERB [OPTION]...\n\n"
        "Attention-based speech recognition that you train on your own recordings.\n\n"
        f"{verbs}\n\n"
        "asr VERB --help explains a verb, asr --version prints the version, --quiet\n"
        "suppresses progress and notes, NO_COLOR=1 in the environment suppresses colours.\n"
        "Exit codes: 0 done, 1 some inputs failed, the others are done, 2 bad input,\n"
        "70 a mistake in asr itself; please report it."
    )


def main(argv: list[str] | None = None) -> int:
    """Run a verb; return the exit code."""
    with guarded():
        return _run(sys.argv[1:] if argv is None else argv)


def _run(argv: list[str]) -> int:
    Quiet.on = "--quiet" in argv
    argv = [arg for arg in argv if arg != "--quiet"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        return _reported("asr", lambda: print(usage())) or (0 if argv else EXIT_USAGE)
    if argv[0] == "--version":
        from asr import __version__

        return _reported("asr", lambda: print(f"asr {__version__}"))
    verb, args = argv[0], argv[1:]
    if verb not in VERBS:
        print(f"asr: {verb}: no such verb{_nearest(verb)}", file=sys.stderr)
        return EXIT_USAGE
    # By default, threads of torch spin for milliseconds while they wait, which takes processors
    # from the native loops and the data loader. The variable is read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # By default, oneDNN caches its code for the last 1024 shapes, which takes hundreds of MB in a
    # training. Batches of speech hardly ever repeat a shape.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
        faulthandler.enable()  # prints a traceback if native code crashes
    return _reported(f"asr {verb}", lambda: import_module(f"asr.commands.{verb}").main(args))


def _nearest(verb: str) -> str:
    close = difflib.get_close_matches(verb, VERBS, 1)
    return f"; did you mean asr {close[0]}?" if close else "; asr --help lists them"


def _reported(name: str, work: Callable[[], int | None]) -> int:
    """Return what ``work`` returns, or report its exception and return its exit code."""
    with _interrupted_by_signals() as signals:
        try:
            try:
                return int(work() or 0)
            finally:
                sys.stdout.flush()  # raises an error for a full disk
        except InputError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return EXIT_USAGE
        except KeyboardInterrupt as interrupt:
            print(f"\n{name}: interrupted; {interrupt}".rstrip("; "), file=sys.stderr)
            return 128 + (signals or [signal.SIGINT])[0]
        except OSError as error:  # a full disk, a name that is too long, ...
            print(f"{name}: {error}", file=sys.stderr)
            return EXIT_USAGE
        except Exception:
            traceback.print_exc()
            print(f"{name}: a mistake in asr itself; please report it", file=sys.stderr)
            return EXIT_BUG


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[list[int]]:
    """Turn TERM, and HUP of a closed terminal, into the KeyboardInterrupt of Ctrl-C.

    Signals that are ignored (nohup) stay ignored.

    Yields:
        the signals received so far.
    """
    received: list[int] = []
    owner = os.getpid()

    def stop(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a forked process has nothing to clean up
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    numbers: list[int] = []
    if threading.current_thread() is threading.main_thread():
        numbers = [n for n in ENDING if signal.getsignal(n) is signal.SIG_DFL]
    with contextlib.ExitStack() as stack:
        for number in numbers:
            stack.callback(signal.signal, number, signal.signal(number, stop))
        yield received
