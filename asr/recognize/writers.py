"""Transcripts to files: which file each input goes to, and what stands in it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import InputError

if TYPE_CHECKING:
    from asr.recognize.transcript import Transcript


def outputs(files: Sequence[Path], folder: Path, formats: Sequence[str]) -> dict[Path, list[Path]]:
    """Where the results of each file go.

    Raises:
        InputError: two inputs would write the same file.
    """
    taken: dict[Path, Path] = {}
    plan: dict[Path, list[Path]] = {}
    for file in files:
        plan[file] = [folder / f"{file.stem}.{kind}" for kind in formats]
        for target in plan[file]:
            if target in taken:
                raise InputError(
                    f"{taken[target]} and {file} would both write {target}; nothing was done. "
                    "Transcribe them in two calls with different -o, or rename one"
                )
            taken[target] = file
    return plan


def render(transcript: "Transcript", kind: str) -> str:
    """A transcript as txt (a line for each segment) or json."""
    if kind == "txt":
        return "".join(segment.text + "\n" for segment in transcript.segments)
    return json.dumps(transcript.to_dict(), ensure_ascii=False, indent=2) + "\n"
