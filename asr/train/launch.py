"""What torchrun tells a process about the others, and what the process tells torchrun."""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import EXIT_USAGE, InputError
from asr.files import write_text


class StartError(InputError):
    """A process has not joined the others, so that it must show its error itself."""


def processes() -> tuple[int, int]:
    """Return the numbers of processes in all and on this machine, as torchrun has set them.

    Raises:
        InputError: something else has set WORLD_SIZE, LOCAL_WORLD_SIZE or RANK.
    """
    count, local = number_of("WORLD_SIZE"), number_of("LOCAL_WORLD_SIZE")
    if count > 1 and (missing := {"RANK", "MASTER_ADDR", "MASTER_PORT"} - os.environ.keys()):
        raise InputError(
            f"WORLD_SIZE is {count} without {', '.join(sorted(missing))}; start the processes with "
            "torchrun, or unset WORLD_SIZE"
        )
    if count > 1 and (rank := number_of("RANK", 0)) >= count:
        raise InputError(f"RANK is {rank}, expected less than WORLD_SIZE, {count}; use torchrun")
    return count, local


def number_of(name: str, least: int = 1) -> int:
    """Return a number from ``least`` on in the environment; ``least`` if it is not there.

    Raises:
        InputError: something else has set it.
    """
    value = os.environ.get(name, str(least))
    if not re.fullmatch("[0-9]+", value) or int(value) < least:
        raise InputError(f"{name} is {value!r}, expected a number from {least} on; unset it")
    return int(value)


def tell_torchrun(message: str) -> bool:
    """Write why this process ends into the file that torchrun shows at the end.

    Returns:
        whether no other process of this machine has done so since they were started.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path:
        return True
    write_text(path, json.dumps({"message": message, "timestamp": str(int(time.time()))}))
    try:
        Path(path).parents[1].joinpath("first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@contextmanager
def told_once() -> Iterator[None]:
    """Show an error that occurs before the processes have joined, once on each machine.

    Raises:
        StartError: the error of the first process that fails; the others exit without a message.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt) as error:
        if processes()[0] == 1:
            raise
        known = isinstance(error, InputError)
        if not tell_torchrun(str(error) or "interrupted"):
            raise SystemExit(EXIT_USAGE if known else 130) from error
        if known:
            raise StartError(str(error)) from error
        raise
