"""Tar shards in the layout of WebDataset: for each utterance a file of audio and one of JSON.

The names of an utterance's two files differ only in their suffix: ``ID.flac`` and ``ID.json``.
WebDataset cuts names at the first dot, so other characters than letters, digits, ``-`` and ``_``
are written as in addresses (``%2E`` is a dot); the JSON has the id itself. It is also a supervision
of lhotse.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.parse import quote

import numpy as np
import soundfile

from asr.audio.clip import Clip, CommandOutputs, info, read
from asr.audio.cmvn import CmvnStats
from asr.audio.features import FeatureExtractor
from asr.config import FeatureConfig
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.feature_statistics import settings_of
from asr.corpus.jobs import in_processes
from asr.corpus.shard_index import (
    INDEX_FILE,
    Entry,
    ShardIndex,
    index_of_shard,
    joined,
    open_index,
)
from asr.errors import AudioError, InputError, first_line
from asr.files import (
    check_folder,
    locked,
    remove_temporaries,
    tar_members,
    write_atomically,
    write_json,
)
from asr.formats import AUDIO_SUFFIXES

UNFINISHED = ".unfinished"  # folder with the indexes of the shards that are done
PLAN_FILE = "plan.json"
SHOWN = 20  # utterances in a message
MOST_CLIPPED = 0.001  # share of the samples of an utterance
Plan = dict[str, str]
Work = dict[Path, Sequence[Utterance]]  # the utterances of each shard
Format = Literal["flac", "opus"]
FORMATS = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


class Sample(NamedTuple):
    """The files of an utterance in a tar file."""

    key: str
    audio: tarfile.TarInfo
    json: tarfile.TarInfo


@dataclass(frozen=True)
class Options:
    """How shards are written."""

    features: FeatureConfig
    """Settings of the features, whose statistics the index has."""
    format: Format = "flac"
    """flac: 16 bits, without loss; opus: about a quarter of that size, with some loss."""
    utterances: int = 1000
    """Utterances in a shard."""
    name: str = "train"
    """Beginning of the names of the shards."""


def key_of(utterance: str) -> str:
    """Return the name of an utterance's files without suffix."""
    return quote(utterance, safe="").replace(".", "%2E").replace("~", "%7E")


def encoded(utterance: Utterance, options: Options, outputs: CommandOutputs | None = None) -> bytes:
    """Return the audio of an utterance as a file, mono, at the sample rate of the features.

    If the utterance is a whole mono file in this format, its bytes are copied, unless its sample
    rate is higher than that of the features; a lower rate is kept.

    Raises:
        AudioError: the audio cannot be read.
    """
    rate = options.features.sample_rate
    if (content := _copied(utterance, options)) is not None:
        return content
    waveform = read(utterance.clip, sample_rate=rate, outputs=outputs)
    if (beyond := float(np.mean(np.abs(waveform) > 1))) > MOST_CLIPPED:
        raise AudioError(
            f"{100 * beyond:.2g} % of the samples are beyond full scale and would be clipped; make "
            "the recording quieter"
        )
    samples = np.rint(waveform * 32768).clip(-32768, 32767).astype(np.int16)
    kind, subtype = FORMATS[options.format]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def _copied(utterance: Utterance, options: Options) -> bytes | None:
    """Return the file of an utterance if it can be copied as it is."""
    clip = utterance.clip
    if clip.command or clip.start_s or clip.end_s is not None:
        return None
    path = Path(str(clip.source))
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(64)
        same = head.startswith(b"fLaC") if options.format == "flac" else b"OpusHead" in head
        if not same:
            return None
        about = info(path)
        if about.channels > 1 or about.sample_rate > options.features.sample_rate:
            return None
        return head + file.read()


def write_shard(path: Path, utterances: Sequence[Utterance], options: Options) -> None:
    """Write a shard atomically; the same utterances give the same bytes.

    Ogg files differ in their random serial number.

    Raises:
        InputError: audio cannot be read; the message lists all such utterances.
    """
    broken: list[str] = []
    outputs = CommandOutputs()

    def write(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for utterance in utterances:
                try:
                    audio = encoded(utterance, options, outputs)
                except InputError as error:
                    broken.append(f"  {utterance.id}: {first_line(error)}")
                    continue
                about = json.dumps(_supervision(utterance, audio), ensure_ascii=False)
                for suffix, content in ((options.format, audio), ("json", about.encode())):
                    member = tarfile.TarInfo(f"{key_of(utterance.id)}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        if broken:
            raise InputError("\n".join(broken))

    write_atomically(path, write)


def _supervision(utterance: Utterance, audio: bytes) -> dict[str, Any]:
    """Return what the JSON of an utterance says: the fields of lhotse's SupervisionSegment."""
    return {
        "id": utterance.id,
        "recording_id": utterance.id,
        "start": 0.0,
        "duration": info(audio).duration_s,
        "channel": 0,
        "text": utterance.text,
        "speaker": utterance.speaker,
    }


def samples_of(tar: tarfile.TarFile, where: str | Path) -> Iterator[Sample]:
    """Yield the utterances of a shard; names are never used as paths.

    Raises:
        InputError: an utterance lacks its audio or its JSON, or has two.
        tarfile.TarError: the shard is damaged.
    """
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in tar_members(tar):
        match = re.fullmatch(r"((?:.*/)?[^/.]+)\.([^/]*)", member.name)
        if member.isreg() and match:
            suffix = f".{match[2].lower()}"
            kind = "audio" if suffix in AUDIO_SUFFIXES else suffix
            if found.setdefault(match[1], {}).setdefault(kind, member) is not member:
                raise InputError(f"{where}: {match[1]} has two files of {kind}; remove one")
    if not found:
        raise InputError(f"{where}: no utterances, expected files such as a.flac and a.json")
    for key, files in found.items():
        if not {"audio", ".json"} <= files.keys():
            raise InputError(
                f"{where}: {key} has {', '.join(f.name for f in files.values())}, expected a file "
                f"of audio and {key}.json with the keys text and speaker"
            )
        yield Sample(key, files["audio"], files[".json"])


def parse_json(content: bytes, key: str, where: str | Path) -> tuple[str, str, str]:
    """Return id, text and speaker from the JSON of an utterance.

    Without an id, the name of its files is the id, and without a speaker, the id is the speaker.

    Raises:
        InputError: it is not JSON, or has no text.
    """
    try:
        about = json.loads(content)
        name, text = about.get("id", key), about["text"]
        found = (name, text, about.get("speaker") or name)
        if not all(isinstance(value, str) and value.encode() for value in found):
            raise ValueError(f"id, text and speaker are {found}")
        if "\n" in name + found[2]:
            raise ValueError("a line feed in id or speaker")
        return found
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(
            f"{where}: the JSON of {key}: {first_line(error)}; expected an object with the text "
            "of the utterance, and perhaps its id and speaker, all of them in quotes"
        ) from error


def index_shard(path: Path, features: FeatureConfig, extra: dict[str, Any]) -> ShardIndex:
    """Read a shard, compute its features, and return its index.

    Raises:
        InputError: it is not a shard, or audio cannot be read.
    """
    extractor, entries, broken = FeatureExtractor(features), [], []
    try:
        with tarfile.open(path, "r:") as tar:
            for sample in samples_of(tar, path):
                try:
                    entries.append(_entry(tar, sample, extractor, path))
                except InputError as error:
                    broken.append(f"  {first_line(error)}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read ({first_line(error)}); expected a whole tar file that is "
            "not compressed; copy or write it again"
        ) from error
    if broken:
        raise InputError("\n".join(broken))
    about = {"settings": settings_of(features), **extra}
    return index_of_shard(path.name, path.stat().st_size, digest, entries, about)


def _entry(tar: tarfile.TarFile, sample: Sample, extractor: FeatureExtractor, path: Path) -> Entry:
    audio, about = (_content(tar, member) for member in (sample.audio, sample.json))
    name, text, speaker = parse_json(about, sample.key, path)
    rate = extractor.config.sample_rate
    waveform = read(Clip(audio, name=f"{path}: {name}"), sample_rate=rate)
    stats = CmvnStats.from_features(extractor(waveform))
    duration_s = round(len(waveform) / rate, 4)  # as in utt2dur
    places = [(m.offset_data, m.size) for m in (sample.audio, sample.json)]
    return Entry(name, speaker, text, duration_s, places[0], places[1], stats)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def write_shards(
    directory: str | Path, out: str | Path, options: Options, jobs: int = 1
) -> Iterator[tuple[int, int]]:
    """Write a data directory as shards with an index; go on with what a killed run has left.

    Args:
        directory: a data directory with transcripts.
        out: the folder to write.
        options: how the shards are written.
        jobs: number of processes.

    Yields:
        the number of shards that are done, and of all.

    Raises:
        InputError: audio cannot be read, or the folder holds other shards.
    """
    if options.format == "opus" and options.features.sample_rate not in OPUS_RATES:
        raise InputError(
            f"features.sample_rate {options.features.sample_rate}: Opus has only the rates "
            f"{', '.join(map(str, OPUS_RATES))}; use --format flac"
        )
    check_folder(out)
    utterances, out = DataDir.load(directory).utterances, Path(out)
    out.mkdir(parents=True, exist_ok=True)
    plan = {"source": _source(utterances, options)}
    _check_folder_of(out, plan)
    size = options.utterances
    parts = [utterances[i : i + size] for i in range(0, len(utterances), size)]
    work: Work = {out / f"{options.name}-{i:06d}.tar": part for i, part in enumerate(parts)}
    with locked(out):
        if all(starmap(_is_current, work.items())) and _has_index(out, options):
            yield len(work), len(work)
            return
        write_json(out / UNFINISHED / PLAN_FILE, plan)
        remove_temporaries(out)
        yield from _finish(out, work, options, plan, jobs)


def index_shards(
    out: str | Path, features: FeatureConfig, jobs: int = 1
) -> Iterator[tuple[int, int]]:
    """Write the index of a folder of shards; go on with what a killed run has left.

    Args:
        out: folder with tar files in the layout of WebDataset.
        features: settings of the features.
        jobs: number of processes.

    Yields:
        the number of shards that are done, and of all.

    Raises:
        InputError: there are no shards, or they cannot be read.
    """
    work: Work = dict.fromkeys(sorted(Path(out).glob("*.tar")), ())
    if not work:
        raise InputError(f"{out}: no tar files, expected shards")
    plan: Plan = {}
    if (Path(out) / INDEX_FILE).is_file():
        plan = {"source": open_index(Path(out) / INDEX_FILE).info.get("source", "")}
    with locked(Path(out)):
        yield from _finish(Path(out), work, Options(features), plan, jobs)


def _has_index(out: Path, options: Options) -> bool:
    """Whether a folder has an index for these features."""
    path, settings = out / INDEX_FILE, settings_of(options.features)
    return path.is_file() and open_index(path).info.get("settings") == settings


def _source(utterances: Sequence[Utterance], options: Options) -> str:
    """Return a hash of what determines the shards; their index depends on all features."""
    how = (options.features.sample_rate, options.format, options.utterances, options.name)
    found = hashlib.sha256(json.dumps(how).encode())
    for u in utterances:
        found.update(f"{u.id} {u.speaker} {u.wav} {u.start_s} {u.end_s} {u.text}\n".encode())
    return found.hexdigest()


def _check_folder_of(out: Path, plan: Plan) -> None:
    """Check that a folder has no shards, or those of the same data and options."""
    if (out / INDEX_FILE).is_file():
        theirs = open_index(out / INDEX_FILE).info
    elif (out / UNFINISHED / PLAN_FILE).is_file():
        try:
            theirs = json.loads((out / UNFINISHED / PLAN_FILE).read_text(encoding="utf-8"))
        except ValueError as error:
            reason = f"{out / UNFINISHED / PLAN_FILE}: damaged ({first_line(error)}); delete {out}"
            raise InputError(reason) from error
    elif any(out.glob("*.tar")):
        theirs = {}
    else:
        return
    if theirs.get("source") != plan["source"]:
        raise InputError(
            f"{out}: holds shards of other data, or written with other options; name another "
            "folder, or delete this one"
        )


def _finish(
    out: Path, work: Work, options: Options, plan: Plan, jobs: int
) -> Iterator[tuple[int, int]]:
    """Write and index the shards that are missing, then the whole index."""
    places = {path: out / UNFINISHED / f"{path.stem}.safetensors" for path in work}
    make = partial(_make, options=options, extra=plan)
    problems: list[str] = []
    calls = ((path, work[path], places[path]) for path in work)
    for done, problem in enumerate(in_processes(make, calls, jobs), 1):
        problems += filter(None, [problem])
        yield done, len(work)
    if problems:
        lines = [line for problem in sorted(problems) for line in problem.splitlines()]
        more = [f"  ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise InputError(
            f"{out}: not finished, as utterances cannot be used; fix their files, or take them out "
            "(a data directory needs `asr data fix` then):\n" + "\n".join(lines[:SHOWN] + more)
        )
    index = joined([open_index(place) for place in places.values()], str(out / INDEX_FILE))
    index.save(out / INDEX_FILE)
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def _make(
    path: Path, utterances: Sequence[Utterance], place: Path, options: Options, extra: Plan
) -> str:
    """Write a shard and its index unless they are there; return why that failed."""
    try:
        if not _is_current(path, utterances):
            write_shard(path, utterances, options)
        if not _is_done(path, place, options):
            index_shard(path, options.features, extra).save(place)
        return ""
    except InputError as error:
        return str(error)


def _is_current(path: Path, utterances: Sequence[Utterance]) -> bool:
    """Whether there is a shard, and no file of its utterances has changed since."""
    written = _changed_ns(path)
    return written > 0 and all(_changed_ns(u.wav) <= written for u in utterances)


def _changed_ns(path: str | Path) -> int:
    """Return when a file was changed; 0 for a command."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  # faster than pathlib
    except (OSError, ValueError):
        return 0


def _is_done(path: Path, place: Path, options: Options) -> bool:
    """Whether there is an index of a shard, younger than it, with the same settings."""
    if not place.is_file() or place.stat().st_mtime_ns < path.stat().st_mtime_ns:
        return False
    index = open_index(place)
    same = index.info.get("settings") == settings_of(options.features)
    return same and int(index.arrays["bytes"][0]) == path.stat().st_size
