"""Decode a data directory: batches of similar length, results kept as they come."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from asr.audio.clip import Outputs, read
from asr.audio.cmvn import CmvnStats
from asr.config import DecodeConfig, FeatureConfig
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.feature_statistics import CMVN_FILE, measure, read_speaker_stats, speaker_totals
from asr.corpus.tables import write_table
from asr.errors import InputError, first_line
from asr.files import check_folder, is_data_directory, write_json, write_text
from asr.lm.lookahead import WordLM
from asr.lm.protocol import LanguageModel
from asr.model.char_lm import sentence_batch
from asr.model.memory import Memory
from asr.recognize.flags import flags
from asr.recognize.plausibility import Standard, standard_from
from asr.search.alignment import Alignment, ctc_align
from asr.search.beam import search
from asr.search.hotwords import HotWords, load_hotwords
from asr.search.hypothesis import Hypothesis
from asr.store.model_file import LoadedModel
from asr.train.data import pad

PARTIAL = "partial.jsonl"
SUMMARY = "decode.json"
Result = dict[str, Any]


def fitting(config: DecodeConfig, loaded: LoadedModel) -> DecodeConfig:
    """Search settings for a model: without CTC where it was trained without."""
    return config if loaded.config.loss.ctc_weight > 0 else replace(config, ctc_weight=0.0)


@torch.no_grad()
def decode_features(
    loaded: LoadedModel,
    features: list[np.ndarray],
    config: DecodeConfig,
    lm: LanguageModel | None = None,
    hotwords: HotWords | None = None,
) -> list[list[Hypothesis]]:
    """Hypotheses for utterances (T_i, F), best first."""
    return search(loaded.model, encode(loaded, features), config, lm, hotwords)


@dataclass(frozen=True)
class Reading:
    """What was found for an utterance."""

    hypotheses: list[Hypothesis]
    """Best first."""
    alignment: Alignment | None
    """Of the best one with CTC; None where there is none: the model was not trained with CTC, or
    the text has more characters than the audio has steps."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What is suspicious about the best one."""
        return flags(self.hypotheses[0], self.alignment)


@torch.no_grad()
def read_features(
    loaded: LoadedModel,
    features: list[np.ndarray],
    config: DecodeConfig,
    lm: LanguageModel | None = None,
    hotwords: HotWords | None = None,
) -> list[Reading]:
    """Hypotheses for utterances (T_i, F), and where CTC hears the best ones."""
    memory = encode(loaded, features)
    found = search(loaded.model, memory, config, lm, hotwords)
    return _with_alignments(loaded, memory, found)


@torch.no_grad()
def force_features(
    loaded: LoadedModel, features: list[np.ndarray], texts: Sequence[tuple[int, ...]]
) -> list[Reading]:
    """Readings of utterances (T_i, F) whose characters are known."""
    if not features:
        return []
    model, memory = loaded.model, encode(loaded, features)
    inputs, targets = sentence_batch([list(text) for text in texts], model.eos)
    device = memory.states.device
    lengths = torch.tensor([len(text) + 1 for text in texts])
    logits, weights = model.decoder(inputs.to(device), lengths, memory)
    spoken = targets.clamp_min(0).unsqueeze(2).to(device)
    said = logits.log_softmax(-1).gather(2, spoken).squeeze(2)  # (B, U + 1)
    found = []
    for row, (text, steps) in enumerate(zip(texts, memory.steps.tolist(), strict=True)):
        each = tuple(said[row, : len(text) + 1].tolist())
        looks = weights[row, : len(text) + 1, :steps]
        score = sum(each)
        found.append([Hypothesis(text, score, {"decoder": score}, looks, True, each)])
    return _with_alignments(loaded, memory, found)


def _with_alignments(
    loaded: LoadedModel, memory: Memory, found: list[list[Hypothesis]]
) -> list[Reading]:
    if loaded.config.loss.ctc_weight == 0:
        return [Reading(hypotheses, None) for hypotheses in found]
    log_probs = loaded.model.ctc_log_probs(memory).cpu().numpy()
    return [
        Reading(hypotheses, ctc_align(log_probs[i, :steps], hypotheses[0].tokens))
        for i, (hypotheses, steps) in enumerate(zip(found, memory.steps.tolist(), strict=True))
    ]


@torch.no_grad()
def encode(loaded: LoadedModel, features: list[np.ndarray]) -> Memory:
    """What the encoder makes of utterances (T_i, F)."""
    device = next(loaded.model.parameters()).device
    padded, frames = pad([torch.from_numpy(each) for each in features])
    return loaded.model.encode(padded.to(device), frames)


def language_model(loaded: LoadedModel, config: DecodeConfig) -> LanguageModel | None:
    """The language model of the settings for a recogniser, on its device; None: there is none."""
    from asr.loading import open_lm

    return open_lm(config, loaded.tokenizer, next(loaded.model.parameters()).device)


def open_hotwords(loaded: LoadedModel, config: DecodeConfig) -> HotWords | None:
    """The hot words of the settings for a recogniser; None where there are none.

    Raises:
        InputError: the file is missing, or not one of hot words that the recogniser can write.
    """
    if not config.hotwords:
        return None
    device = next(loaded.model.parameters()).device
    return load_hotwords(config.hotwords, config.hotword_weight, loaded.tokenizer, device)


def open_standard(
    loaded: LoadedModel,
    config: DecodeConfig,
    lm: LanguageModel | None,
    hotwords: HotWords | None,
) -> Standard | None:
    """By what a model judges its texts; None where it does not tell, or without CTC's score.

    The words that a word n-gram and the hot words list count as known.
    """
    found = standard_from(loaded.info, loaded.path) if config.ctc_weight > 0 else None
    return found and found.knowing(listed_words(loaded, lm, hotwords))


def listed_words(
    loaded: LoadedModel, lm: LanguageModel | None, hotwords: HotWords | None
) -> frozenset[str]:
    """The words of a word n-gram and of the hot words."""
    words = set(lm.ngram.words) if isinstance(lm, WordLM) else set()
    for spelling in () if hotwords is None else hotwords.values:
        words.update(loaded.tokenizer.decode(spelling).split())
    return frozenset(words)


def describe(
    loaded: LoadedModel, found: list[Hypothesis], standard: Standard | None = None
) -> list[Result]:
    """An n-best list as JSON can hold it; ``standard``: see :mod:`asr.recognize.plausibility`."""
    return [_describe(h, loaded.tokenizer.decode(h.tokens), standard) for h in found]


def _describe(h: Hypothesis, text: str, standard: Standard | None) -> Result:
    found = flags(h)
    return {
        "text": text,
        "score": round(h.score, 4),
        "scores": {name: round(score, 4) for name, score in h.scores.items()},
        "flags": found if standard is None else standard.judge(found, h, text),
    }


def _speaker_stats(
    data: str | Path, utterances: Sequence[Utterance], config: FeatureConfig
) -> dict[str, CmvnStats]:
    """What ``asr features`` left in the directory, or the same computed now."""
    if (Path(data) / CMVN_FILE).is_file():
        return read_speaker_stats(data, config)
    return speaker_totals(measure(u, config) for u in utterances)


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
        loaded: the model.
        data: the directory; transcripts are not needed.
        config: search settings.
        out: folder for the results; what an interrupted decoding with the same settings
            left there is kept.

    Raises:
        InputError: a setting is out of range, the directory is not valid, or ``out`` holds other
            transcripts.
    """

    def __init__(
        self, loaded: LoadedModel, data: str | Path, config: DecodeConfig, out: str | Path
    ) -> None:
        check_out(out)
        config = fitting(config, loaded)
        self.loaded, self.config, self.out = loaded, config, Path(out)
        self.lm = language_model(loaded, config)
        self.hotwords = open_hotwords(loaded, config)
        self.standard = open_standard(loaded, config, self.lm, self.hotwords)
        text = (Path(data) / "text").is_file()
        self.utterances = DataDir.load(data, text=text).utterances
        self.speakers: dict[str, CmvnStats] = {}
        if loaded.config.features.cmvn == "speaker":
            self.speakers = _speaker_stats(data, self.utterances, loaded.config.features)
        self.results: dict[str, list[Result]] = {}
        self.errors: dict[str, str] = {}
        self.audio_s = 0.0

    def run(self, report: Callable[[int, int], None]) -> None:
        """Decode what is not decoded yet and write all results.

        Args:
            report: told how many utterances are done, and of how many.
        """
        started = time.monotonic()
        with self._resumed() as partial:
            left = [u for u in self.utterances if u.id not in self.results]
            left.sort(key=lambda u: u.duration_s or 0.0)
            for start in range(0, len(left), self.config.batch):
                for name, found in self._decode(left[start : start + self.config.batch]):
                    self.results[name] = found
                    partial.write(json.dumps({"utterance": name, "nbest": found}) + "\n")
                partial.flush()
                report(len(self.results) + len(self.errors), len(self.utterances))
        self._write(time.monotonic() - started)
        (self.out / PARTIAL).unlink()

    def _decode(self, utterances: list[Utterance]) -> Iterator[tuple[str, list[Result]]]:
        names, features = [], []
        rate, outputs = self.loaded.config.features.sample_rate, Outputs()
        for u in utterances:
            try:
                waveform = read(u.clip, sample_rate=rate, outputs=outputs)
                features.append(self.loaded.features(waveform, self.speakers.get(u.speaker)))
            except InputError as error:
                self.errors[u.id] = first_line(error)
                continue
            names.append(u.id)
            self.audio_s += len(waveform) / rate
        if features:
            found = decode_features(self.loaded, features, self.config, self.lm, self.hotwords)
            lists = [describe(self.loaded, each, self.standard) for each in found]
            yield from zip(names, lists, strict=True)

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
                self.results[entry["utterance"]] = entry["nbest"]
        kept = [json.dumps({"utterance": k, "nbest": v}) for k, v in self.results.items()]
        write_text(path, "\n".join([heading, *kept]) + "\n")
        return open(path, "a", encoding="utf-8")

    def _fingerprint(self) -> str:
        """What must not have changed if partial results are to be kept, as one line."""
        model = self.loaded.path
        audio = repr([(u.id, u.speaker, u.wav, u.start_s, u.end_s) for u in self.utterances])
        others = (self.config.lm, self.config.word_lm, self.config.hotwords)
        files = [model, *(Path(p) for p in others if p)]
        value = {
            "config": asdict(self.config),
            "model": str(model),
            "times": [path.stat().st_mtime_ns for path in files],
            "data": hashlib.sha256(audio.encode()).hexdigest(),
        }
        return json.dumps(value)

    def _write(self, seconds: float) -> None:
        """The files that scoring and people read."""
        best = {name: found[0] for name, found in sorted(self.results.items()) if found}
        write_table(self.out / "text", {name: b["text"] for name, b in best.items()})
        nbest = [{"utterance": k, "nbest": v} for k, v in sorted(self.results.items())]
        write_text(
            self.out / "nbest.jsonl",
            "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in nbest),
        )
        flagged = {name: " ".join(b["flags"]) for name, b in best.items() if b["flags"]}
        write_table(self.out / "flags", flagged)
        write_json(
            self.out / SUMMARY,
            {
                "model": str(self.loaded.path),
                "config": asdict(self.config),
                "utterances": len(self.utterances),
                "flagged": len(flagged),
                "errors": self.errors,
                "audio_s": round(self.audio_s, 2),
                "seconds": round(seconds, 2),
                "real_time_factor": round(seconds / self.audio_s, 4) if self.audio_s else None,
                "threads": torch.get_num_threads(),
            },
        )
