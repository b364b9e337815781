"""Recognition of a data directory, in batches of similar length that survive an interruption.

The batches follow from the whole directory, so that results of parts equal those of the whole.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from asr.audio.clip import CommandOutputs, read
from asr.audio.cmvn import CmvnStats
from asr.config import FeatureConfig
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.feature_statistics import CMVN_FILE, measure, read_speaker_stats, speaker_totals
from asr.corpus.saved import stamp
from asr.corpus.tables import write_table
from asr.errors import InputError, first_line
from asr.files import (
    PARTIAL,
    RESULTS,
    SUMMARY,
    check_folder,
    is_data_directory,
    locked,
    write_json,
    write_text,
)
from asr.recognize.inputs import Input
from asr.recognize.metrics import AlignmentStatistics, mean_statistics
from asr.recognize.transcript import Transcript
from asr.recognize.utterances import Chunk, UtteranceRecognizer
from asr.terminal import note

OF_SUMMARY = {"inputs", "utterances", "errors", "audio_s", "seconds"}  # keys of the summary
OF_RESULTS = {"id", "text", "flags", "duration", "alignment"}  # keys of an utterance
Results = dict[str, dict[str, Any]]  # of Transcript.to_dict, by utterance


def speaker_stats(
    data: str | Path, utterances: Sequence[Utterance], config: FeatureConfig
) -> dict[str, CmvnStats]:
    """Return the statistics of a data directory's speakers, from ``asr features`` or computed now.

    The result is empty if the features are not normalised by speaker.
    """
    if config.cmvn != "speaker":
        return {}
    if (Path(data) / CMVN_FILE).is_file():
        return read_speaker_stats(data, config)
    outputs = CommandOutputs()  # so that a command runs once for all of its segments
    found = list[tuple[str, CmvnStats]]()
    for utterance in utterances:
        with suppress(InputError):  # recognition reports it
            found.append((utterance.speaker, measure(utterance, outputs, config)[1]))
    return speaker_totals(found)


def stats_of_inputs(inputs: Sequence[Input], config: FeatureConfig) -> Iterator[CmvnStats | None]:
    """Return the statistics of each input's speaker, if a data directory names the speaker."""
    found: dict[Path, dict[str, CmvnStats]] = {}  # by data directory and utterance
    for data in {item.data for item in inputs if item.data and config.cmvn == "speaker"}:
        if (data / "utt2spk").is_file():
            utterances = DataDir.load(data, text=False).utterances
            stats = speaker_stats(data, utterances, config)
            found[data] = {u.id: stats[u.speaker] for u in utterances if u.speaker in stats}
    return (found.get(i.data, {}).get(i.utterance) if i.data else None for i in inputs)


def load_utterances(data: str | Path) -> Sequence[Utterance]:
    """Return the utterances of a data directory, with or without transcripts."""
    return DataDir.load(data, text=(Path(data) / "text").is_file()).utterances


def plan_batches(utterances: Sequence[Utterance], size: int) -> list[list[Utterance]]:
    """Return batches of up to ``size`` utterances, the shortest first."""
    ordered = sorted(utterances, key=lambda u: u.duration_s or 0.0)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def read_batches(
    recognizer: UtteranceRecognizer,
    data: str | Path,
    utterances: Sequence[Utterance],
    failed: Callable[[Utterance, str], None],
    *,
    plan: Iterable[Sequence[Utterance]] | None = None,
    longest_s: float = math.inf,
) -> Iterator[list[tuple[Utterance, Chunk]]]:
    """Yield batches of utterances with their features.

    Args:
        recognizer: the model.
        data: the data directory.
        utterances: of the directory.
        failed: called with each utterance that is left out, and the reason.
        plan: batches of some of the utterances; by default all, see :func:`plan_batches`.
        longest_s: longer utterances are left out.
    """
    config, outputs = recognizer.header.config.features, CommandOutputs()
    speakers = speaker_stats(data, utterances, config)
    plan = plan_batches(utterances, recognizer.config.batch) if plan is None else plan

    def chunk(u: Utterance) -> Chunk:
        waveform = read(u.clip, sample_rate=config.sample_rate, outputs=outputs)
        duration_s = len(waveform) / config.sample_rate
        if duration_s > longest_s:
            raise InputError(f"{duration_s:.0f} s long, expected at most {longest_s:g} s")
        features = recognizer.features(waveform, speakers.get(u.speaker))
        return Chunk(features, 0.0, duration_s)

    for planned in plan:
        batch = []
        for u in planned:
            try:
                batch.append((u, chunk(u)))
            except InputError as error:
                failed(u, first_line(error))
        if batch:
            yield batch


def check_out(folder: str | Path) -> None:
    """Check that a folder holds no transcripts, which the hypotheses would replace.

    Raises:
        InputError: it is a data directory, has a file ``text`` that no decoding wrote, or cannot
            be written.
    """
    check_folder(folder)
    folder = Path(os.path.realpath(folder))
    decoded = any((folder / name).is_file() for name in (SUMMARY, PARTIAL))
    if is_data_directory(folder) or ((folder / "text").exists() and not decoded):
        raise InputError(
            f"{folder}: its transcripts would be replaced by hypotheses, because `asr decode` "
            "writes a file text; name a folder for the results alone"
        )


class Decoding:
    """The decoding of one data directory.

    Args:
        recognizer: the model.
        data: the directory; transcripts are not needed.
        out: folder for the results. An interrupted decoding with the same settings is continued.
        part: this part and the number of parts; its results go to ``out/split<parts>/<part>``.
            By default, everything is decoded.
        precision: of the model's products, on which the results depend.

    Raises:
        InputError: the directory is not valid, or ``out`` holds other transcripts.
    """

    def __init__(
        self,
        recognizer: UtteranceRecognizer,
        data: str | Path,
        out: str | Path,
        part: tuple[int, int] | None = None,
        precision: str = "float32",
    ) -> None:
        check_out(out)
        self.recognizer, self.data, self.precision = recognizer, Path(data), precision
        self.out = part_folder(Path(out), *part) if part else Path(out)
        self.utterances = load_utterances(data)
        number, parts = part or (1, 1)
        self.plan = plan_batches(self.utterances, recognizer.config.batch)[number - 1 :: parts]
        self.count = sum(map(len, self.plan))
        self.inputs = self._fingerprint()
        self.results: Results = {}
        self.before_s = 0.0  # that earlier runs took for the results that are continued
        self.errors: dict[str, str] = {}

    def done(self) -> bool:
        """Whether these results are there without errors, decoded with the same settings."""
        summary = self._summary() if is_complete(self.out) else {}
        return summary.get("inputs") == self.inputs and not summary["errors"]

    def _summary(self) -> dict[str, Any]:
        """Return the summary of the results that lie in the folder; it is empty without them."""
        path = self.out / SUMMARY
        return read_json(path.read_bytes(), path, OF_SUMMARY) if path.is_file() else {}

    def run(self, report: Callable[[int, int], None], threads: int) -> None:
        """Decode the utterances that are not decoded yet, and write all results.

        Args:
            report: called with the number of utterances done and of all utterances.
            threads: number of threads, for the summary.
        """
        started = time.monotonic()
        given = self.recognizer, self.data, self.utterances, self._failed
        self.out.mkdir(parents=True, exist_ok=True)
        with locked(self.out), self._resumed() as partial:
            left = [batch for batch in self.plan if any(u.id not in self.results for u in batch)]
            for batch in read_batches(*given, plan=left):
                found = self.recognizer.recognize_each([chunk for _, chunk in batch])
                for (u, chunk), segment in zip(batch, found, strict=True):
                    if isinstance(segment, InputError):
                        self._failed(u, first_line(segment))
                        continue
                    result = Transcript(chunk.end_s, (segment,)).to_dict(u.id, u.wav)
                    self.results[u.id] = result
                    partial.write(_line(result))
                partial.write(_line({"seconds": self.before_s + time.monotonic() - started}))
                partial.flush()
                report(len(self.results) + len(self.errors), self.count)
            self._write(self.before_s + time.monotonic() - started, threads)
            (self.out / PARTIAL).unlink()

    def _failed(self, utterance: Utterance, reason: str) -> None:
        self.errors[utterance.id] = reason

    def _resumed(self) -> TextIO:
        """Return the file of partial results, open for more; earlier ones are read if they fit."""
        path = self.out / PARTIAL
        heading = self.inputs
        first, *lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
        if first == heading.encode():
            for line in lines:
                try:
                    entry = read_json(line, path, ())
                except InputError:  # cut off when the decoding was killed, or the end of the file
                    break
                if entry.keys() >= OF_RESULTS:
                    self.results[entry["id"]] = entry
                elif isinstance(seconds := entry.get("seconds"), float):
                    self.before_s = seconds
        elif first or self._summary().get("inputs", heading) != heading:
            note(f"{self.out}: replaces results of another model, other settings or other data")
        kept = [*self.results.values(), {"seconds": self.before_s}]
        write_text(path, "".join([heading + "\n", *map(_line, kept)]))
        return open(path, "a", encoding="utf-8")

    def _fingerprint(self) -> str:
        """Return a line about everything that the results depend on."""
        model, config = self.recognizer.header.path, self.recognizer.config
        audio = repr([(u.id, u.speaker, u.wav, u.start_s, u.end_s) for u in self.utterances])
        audio += repr({u.wav: stamp(u.wav) for u in self.utterances})
        audio += stamp(str(self.data / CMVN_FILE))
        files = [model, *(Path(p) for p in (config.lm, config.word_lm, config.hotwords) if p)]
        value = {
            "config": asdict(config),
            "model": str(model),
            "files": [stamp(str(path)) for path in files],
            "data": hashlib.sha256(audio.encode()).hexdigest(),
            "precision": self.precision,
        }
        return json.dumps(value)

    def _write(self, seconds: float, threads: int) -> None:
        """Write the results, the flags and the summary."""
        audio_s = sum(each["duration"] for each in self.results.values())
        summary = {
            "model": str(self.recognizer.header.path),
            "config": asdict(self.recognizer.config),
            "inputs": self.inputs,
            "utterances": self.count,
            "errors": self.errors,
            "audio_s": round(audio_s, 2),
            "seconds": round(seconds, 2),
            "threads": threads,
            "precision": self.precision,
        }
        write_results(self.out, self.results, summary)


def is_complete(folder: Path) -> bool:
    """Whether a folder has the results of a decoding that was not interrupted."""
    there = all((folder / name).is_file() for name in (SUMMARY, RESULTS))
    return there and not (folder / PARTIAL).exists()


def read_json(text: bytes, path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Parse a table that a decoding wrote into a file as JSON.

    Raises:
        InputError: it is damaged, or one of the keys is missing.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); delete it, and decode again") from error
    if not isinstance(value, dict) or not value.keys() >= set(keys):
        expected = ", ".join(sorted(keys))
        raise InputError(
            f"{path}: not of `asr decode`, expected {expected}; delete it, and decode again"
        )
    return value


def mean_alignment(results: Results) -> AlignmentStatistics | None:
    """Return the means of the statistics of all utterances that were decoded."""
    return mean_statistics(AlignmentStatistics(**each["alignment"]) for each in results.values())


def write_results(out: Path, results: Results, summary: dict[str, Any]) -> None:
    """Write results into a folder: ``text``, ``results.jsonl``, ``flags``, and the summary."""
    results = dict(sorted(results.items()))
    for scores in out.glob("[wc]er_[-0-9]*_[-0-9]*"):  # of an earlier decoding
        scores.unlink()
    shutil.rmtree(out / "scoring_kaldi", ignore_errors=True)
    write_table(out / "text", {name: each["text"] for name, each in results.items()})
    write_text(out / RESULTS, "".join(map(_line, results.values())))
    flagged = {name: " ".join(each["flags"]) for name, each in results.items()}
    flagged = {name: flags for name, flags in flagged.items() if flags}
    write_table(out / "flags", flagged)
    alignment, audio_s = mean_alignment(results), summary["audio_s"]
    summary |= {
        "flagged": len(flagged),
        "alignment": alignment and alignment.to_dict(),
        "real_time_factor": round(summary["seconds"] / audio_s, 4) if audio_s else None,
    }
    write_json(out / SUMMARY, summary)


def part_folder(out: Path, number: int, parts: int) -> Path:
    """Return the folder for the results of a part."""
    return out / f"split{parts}" / str(number)


def _line(result: dict[str, Any]) -> str:
    return json.dumps(result, ensure_ascii=False) + "\n"
