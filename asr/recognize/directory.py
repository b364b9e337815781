"""Recognise the utterances of a data directory: batches of similar length, kept as they come."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from asr.audio.clip import Outputs, read
from asr.audio.cmvn import CmvnStats
from asr.config import FeatureConfig
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.feature_statistics import CMVN_FILE, measure, read_speaker_stats, speaker_totals
from asr.corpus.tables import write_table
from asr.errors import InputError, first_line
from asr.files import check_folder, is_data_directory, write_json, write_text
from asr.recognize.inputs import Input
from asr.recognize.transcript import Segment, Transcript
from asr.recognize.utterances import Chunk, UtteranceRecognizer

PARTIAL = "partial.jsonl"
RESULTS = "results.jsonl"
SUMMARY = "decode.json"
Result = dict[str, Any]
"""See :meth:`asr.recognize.transcript.Transcript.to_dict`."""


def speaker_stats(
    data: str | Path, utterances: Sequence[Utterance], config: FeatureConfig
) -> dict[str, CmvnStats]:
    """Statistics of a data directory's speakers, for models that normalise with them.

    Returns:
        what ``asr features`` left in the directory, or the same computed now; empty where the
        features are not normalised by speaker.
    """
    if config.cmvn != "speaker":
        return {}
    if (Path(data) / CMVN_FILE).is_file():
        return read_speaker_stats(data, config)
    return speaker_totals(measure(u, config) for u in utterances)


def stats_of_inputs(inputs: Sequence[Input], config: FeatureConfig) -> Iterator[CmvnStats | None]:
    """Statistics of each input's speaker, where a data directory tells who that is."""
    found: dict[Path, dict[str, CmvnStats]] = {}  # by data directory and utterance
    for data in {item.data for item in inputs if item.data and config.cmvn == "speaker"}:
        if (data / "utt2spk").is_file():
            utterances = DataDir.load(data, text=False).utterances
            stats = speaker_stats(data, utterances, config)
            found[data] = {u.id: stats[u.speaker] for u in utterances if u.speaker in stats}
    return (found.get(i.data, {}).get(i.utterance) if i.data else None for i in inputs)


def read_batches(
    recognizer: UtteranceRecognizer,
    utterances: Sequence[Utterance],
    speakers: Mapping[str, CmvnStats],
    failed: Callable[[Utterance, str], None],
) -> Iterator[list[tuple[Utterance, Chunk]]]:
    """Utterances of a data directory, ready for the model, ``config.batch`` at a time.

    Args:
        recognizer: the model.
        utterances: those that are wanted; the short ones come first.
        speakers: their statistics, see :func:`speaker_stats`.
        failed: told which utterance cannot be read, and why.
    """
    config, outputs = recognizer.header.config.features, Outputs()

    def chunk(u: Utterance) -> Chunk:
        waveform = read(u.clip, sample_rate=config.sample_rate, outputs=outputs)
        features = recognizer.features(waveform, speakers.get(u.speaker))
        return Chunk(features, 0.0, len(waveform) / config.sample_rate)

    ordered = sorted(utterances, key=lambda u: u.duration_s or 0.0)
    for start in range(0, len(ordered), recognizer.config.batch):
        batch = []
        for u in ordered[start : start + recognizer.config.batch]:
            try:
                batch.append((u, chunk(u)))
            except InputError as error:
                failed(u, first_line(error))
        yield batch


def check_out(folder: str | Path) -> None:
    """Refuse a folder whose ``text`` no decoding wrote: hypotheses would replace it.

    Raises:
        InputError: it is a data directory, has such a text, or cannot be written.
    """
    check_folder(folder)
    folder = Path(os.path.realpath(folder))
    decoded = any((folder / name).is_file() for name in (SUMMARY, PARTIAL))
    if is_data_directory(folder) or ((folder / "text").exists() and not decoded):
        raise InputError(
            f"{folder}: its transcripts would be replaced by hypotheses, for `asr decode` writes "
            "a file text; name a folder for the results alone"
        )


class Decoding:
    """The decoding of one data directory.

    Args:
        recognizer: the model.
        data: the directory; transcripts are not needed.
        out: folder for the results; what an interrupted decoding with the same settings
            left there is kept.

    Raises:
        InputError: the directory is not valid, or ``out`` holds other transcripts.
    """

    def __init__(self, recognizer: UtteranceRecognizer, data: str | Path, out: str | Path) -> None:
        check_out(out)
        self.recognizer, self.data, self.out = recognizer, Path(data), Path(out)
        text = (self.data / "text").is_file()
        self.utterances = DataDir.load(data, text=text).utterances
        self.results: dict[str, Result] = {}
        self.errors: dict[str, str] = {}

    def run(self, report: Callable[[int, int], None], threads: int) -> None:
        """Decode what is not decoded yet and write all results.

        Args:
            report: told how many utterances are done, and of how many.
            threads: that compute, for the summary.
        """
        started, audio_s = time.monotonic(), 0.0
        features = self.recognizer.header.config.features
        speakers = speaker_stats(self.data, self.utterances, features)
        with self._resumed() as partial:
            left = [u for u in self.utterances if u.id not in self.results]
            for batch in read_batches(self.recognizer, left, speakers, self._failed):
                found = self.recognizer.recognize([chunk for _, chunk in batch]) if batch else []
                for (u, chunk), segment in zip(batch, found, strict=True):
                    audio_s += chunk.end_s
                    self.results[u.id] = result = _result(u, segment)
                    partial.write(_line(result))
                partial.flush()
                report(len(self.results) + len(self.errors), len(self.utterances))
        self._write(time.monotonic() - started, audio_s, threads)
        (self.out / PARTIAL).unlink()

    def _failed(self, utterance: Utterance, reason: str) -> None:
        self.errors[utterance.id] = reason

    def _resumed(self) -> TextIO:
        """The file of partial results, open for more; earlier ones are read if they fit."""
        path = self.out / PARTIAL
        self.out.mkdir(parents=True, exist_ok=True)
        heading = self._fingerprint()
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if lines and lines[0] == heading:
            for line in lines[1:]:
                try:
                    entry = json.loads(line)
                except ValueError:  # cut short when the decoding was killed
                    break
                self.results[entry["id"]] = entry
        write_text(path, "".join([heading + "\n", *map(_line, self.results.values())]))
        return open(path, "a", encoding="utf-8")

    def _fingerprint(self) -> str:
        """What must not have changed if partial results are to be kept, as one line."""
        model, config = self.recognizer.header.path, self.recognizer.config
        audio = repr([(u.id, u.speaker, u.wav, u.start_s, u.end_s) for u in self.utterances])
        files = [model, *(Path(p) for p in (config.lm, config.word_lm, config.hotwords) if p)]
        value = {
            "format": RESULTS,  # partial results of earlier versions hold less
            "config": asdict(config),
            "model": str(model),
            "times": [path.stat().st_mtime_ns for path in files],
            "data": hashlib.sha256(audio.encode()).hexdigest(),
        }
        return json.dumps(value)

    def _write(self, seconds: float, audio_s: float, threads: int) -> None:
        """The files that scoring and people read."""
        results = dict(sorted(self.results.items()))
        write_table(self.out / "text", {name: each["text"] for name, each in results.items()})
        write_text(self.out / RESULTS, "".join(map(_line, results.values())))
        flagged = {name: " ".join(each["flags"]) for name, each in results.items()}
        flagged = {name: flags for name, flags in flagged.items() if flags}
        write_table(self.out / "flags", flagged)
        write_json(
            self.out / SUMMARY,
            {
                "model": str(self.recognizer.header.path),
                "config": asdict(self.recognizer.config),
                "utterances": len(self.utterances),
                "flagged": len(flagged),
                "errors": self.errors,
                "audio_s": round(audio_s, 2),
                "seconds": round(seconds, 2),
                "real_time_factor": round(seconds / audio_s, 4) if audio_s else None,
                "threads": threads,
            },
        )


def _result(utterance: Utterance, segment: Segment) -> Result:
    return Transcript(segment.end_s, (segment,)).to_dict(utterance.id, utterance.wav)


def _line(result: Result) -> str:
    return json.dumps(result, ensure_ascii=False) + "\n"
