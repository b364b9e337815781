"""Settings that may change when a training is resumed."""

from collections.abc import Sequence
from typing import Any

from asr.config import TrainConfig
from asr.config.read import flatten, is_fixed, to_dict
from asr.errors import InputError

# They may change at any time: what is learnt does not depend on them, but for the rounding of
# sums, which is another with other threads or on another device.
FREE = (
    "checkpoint_minutes",
    "threads",
    "device",
    "alignment_alarm_step",
    "skip_limit",
    "batch.workers",
)
# The batches of an epoch depend on them: an epoch under way begins again.
PLAN = ("passes", "batch.")
DEV = "dev"  # not a setting, but it may be changed by name like one


def check_names(change: Sequence[str]) -> None:
    """Refuse names that are no settings; raises InputError."""
    known = flatten(to_dict(TrainConfig()))
    for name in change:
        if name != DEV and name not in known:
            raise InputError(
                f"--change {name}: no such setting; expected names as in `asr train --help`, for "
                f"example epochs or optim.learning_rate, or {DEV} for another dev set"
            )


def changed_settings(
    theirs: dict[str, Any], ours: TrainConfig, change: Sequence[str], where: str
) -> list[str]:
    """Return the settings that differ from those of the training so far.

    Args:
        theirs: its configuration so far, as :func:`asr.config.read.to_dict` gives it.
        ours: the configuration that it is to go on with.
        change: names of settings that are meant to change.
        where: the file that remembers the training, for the message.

    Raises:
        InputError: others differ, or some that cannot change; the message names them.
    """
    before = flatten(to_dict(TrainConfig())) | flatten(theirs)
    now = flatten(to_dict(ours))
    differing = [key for key in now if key not in FREE and before[key] != now[key]]
    wrong = [key for key in differing if key not in change or is_fixed(key)]
    if not wrong:
        return differing
    found = ", ".join(f"{key} was {before[key]!r}, is {now[key]!r}" for key in wrong)
    fixed = [key for key in wrong if is_fixed(key)]
    remedy = (
        f"{', '.join(fixed)} cannot change in a training"
        if fixed
        else f"to go on with the new value, add --change {' '.join(wrong)}"
    )
    raise InputError(
        f"{where}: a training with other settings is here: {found}; {remedy}; otherwise use the "
        "same settings, or another --out folder"
    )
