"""Merge the parts in which a data directory was decoded."""

import shutil
from pathlib import Path
from typing import Any

from asr.errors import InputError, counted, listed
from asr.files import RESULTS, SUMMARY
from asr.recognize.directory import (
    OF_RESULTS,
    OF_SUMMARY,
    Results,
    is_complete,
    load_utterances,
    part_folder,
    read_json,
    write_results,
)


def merge(data: str | Path, out: Path) -> tuple[Results, dict[str, Any]]:
    """Merge the results of all parts in ``out``, and remove the folders of the parts.

    Args:
        data: the data directory.
        out: folder of the decoding.

    Returns:
        the results and the summary, as a decoding of the whole writes them.

    Raises:
        InputError: a part is missing, or parts were decoded with other models, settings or data.
    """
    folders = _parts_of(out)
    files = [each / SUMMARY for each in folders]
    summaries = [read_json(file.read_bytes(), file, OF_SUMMARY) for file in files]
    files = [each / RESULTS for each in folders]
    entries = (read_json(line, file, OF_RESULTS) for file in files for line in file.open("rb"))
    results = {entry["id"]: entry for entry in entries}
    summary = summaries[0] | {
        "utterances": sum(each["utterances"] for each in summaries),
        "errors": {name: why for each in summaries for name, why in each["errors"].items()},
        "audio_s": round(sum(each["audio_s"] for each in summaries), 2),
        "seconds": round(sum(each["seconds"] for each in summaries), 2),
    }
    ids = {u.id for u in load_utterances(data)}
    same = all(each["inputs"] == summaries[0]["inputs"] for each in summaries)
    if not same or ids != results.keys() | summary["errors"].keys():
        raise InputError(
            f"{folders[0].parent}: these parts do not belong together: they were decoded with "
            f"other models, settings or data than {data}; delete the folder and decode all parts"
        )
    write_results(out, results, summary)
    shutil.rmtree(folders[0].parent)
    return results, summary


def _parts_of(out: Path) -> list[Path]:
    """Return the folders of all parts; raise InputError if one is missing."""
    found = [path for path in out.glob("split*") if path.name[5:].isdigit()]
    if len(found) != 1:
        names = listed(sorted(path.name for path in found)) or "none"
        raise InputError(
            f"{out}: expected the parts of one decoding, split<N>, found {names}; decode with "
            "--part 1/N to --part N/N, and delete what is left of others"
        )
    parts = int(found[0].name[5:])
    folders = [part_folder(out, number, parts) for number in range(1, parts + 1)]
    missing = [
        f"{number}/{parts}" for number, folder in enumerate(folders, 1) if not is_complete(folder)
    ]
    if missing:
        raise InputError(
            f"{found[0]}: {counted(len(missing), 'part')} of {parts} missing or unfinished: "
            f"{listed(missing)}; run `asr decode --part {missing[0]}` with the others' options"
        )
    return folders
