"""Make ``data/mini``: a small corpus of synthetic speech in the layout of LibriSpeech.

    apt install espeak-ng
    python data/make_mini.py --out data/mini

The recogniser does not need this script; the corpus it makes is kept beside it. The same
espeak-ng, libsndfile and processor family give the same bytes (see the README it writes).

Each voice is an espeak-ng accent with a variant, a pitch, a rate and a vocal tract: the
synthesiser's samples are played a few percent faster or slower, which moves the formants as
a shorter or longer tract does. Sentences come from a grammar; none occurs twice.
"""

import argparse
import ctypes
import hashlib
import io
import random
import re
import shutil
import string
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly  # type: ignore[import-untyped]

Samples = NDArray[np.float64]

SAMPLE_RATE = 16000
SEED = 20151120
OPUS_COMPRESSION = 0.95  # libsndfile: 256000 - 250000 * level = 18.5 kbit/s
CHAPTER = 1  # every voice reads one chapter
UTTERANCES = {"train-mini": 31, "dev-mini": 15, "test-mini": 15}  # of each voice
TEMPLATE = Path(__file__).with_name("mini_readme.md.in")


# --- What is said ---------------------------------------------------------------------------

GRAMMAR: dict[str, tuple[str, ...]] = {
    "sentence": (
        "SET A TIMER FOR <minutes> MINUTES",
        "SET AN ALARM FOR <time> <day>",
        "SET AN ALARM FOR <time> IN THE MORNING",
        "CALL <name> <when>",
        "CALL <name> AND <name> <when>",
        "SEND A MESSAGE TO <name> <when>",
        "TELL <name> I WILL BE <minutes> MINUTES LATE",
        "TELL <name> I WILL CALL <when>",
        "ADD <item> AND <item> TO THE SHOPPING LIST",
        "ADD <item> <item> AND <item> TO MY SHOPPING LIST",
        "BUY <count> <countable> AND <item> <day>",
        "TURN <switch> THE <device> IN THE <room>",
        "TURN <switch> THE <device> IN THE <room> AT <time>",
        "<shut> THE <opening> IN THE <room>",
        "<shut> THE <opening> IN THE <room> <when>",
        "PLAY MUSIC IN THE <room> <when>",
        "REMIND ME TO <task> <when>",
        "REMIND ME TO <task> AND <task>",
        "BOOK A TABLE FOR <count> <when>",
        "BOOK AN APPOINTMENT WITH THE <doctor> <when>",
        "MOVE THE MEETING WITH <name> TO <day-of-week>",
        "MOVE MY APPOINTMENT TO <day-of-week> AT <time>",
        "CANCEL THE MEETING WITH <name> <when>",
        "CANCEL MY APPOINTMENT WITH THE <doctor> <when>",
        "WHEN IS MY NEXT <event> WITH <anyone>",
        "WHAT IS ON MY <agenda> <when>",
    ),
    "when": ("<day>", "AT <time>", "<day> AT <time>"),
    "day": ("TODAY", "TOMORROW", "TONIGHT", "ON <day-of-week>", "<day-part>"),
    "day-part": ("TOMORROW <half>", "ON <day-of-week> <half>", "IN THE <half>"),
    "half": ("MORNING", "EVENING"),
    "day-of-week": ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"),
    "time": ("<hour>", "<hour> <past>"),
    "hour": ("ONE", "<count>", "ELEVEN", "TWELVE", "<count>", "<count>"),
    "past": ("FIFTEEN", "TWENTY", "THIRTY", "FORTY", "FORTY FIVE"),
    "minutes": ("<count>", "FIFTEEN", "<tens>", "<tens> <digit>"),
    "tens": ("TWENTY", "THIRTY", "FORTY"),
    "digit": ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"),
    "count": ("TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN"),
    "name": ("MARTHA", "PETER", "ANNA", "DAVID", "JULIA", "OSCAR"),
    "item": ("MILK", "BREAD", "RICE", "COFFEE", "BUTTER", "CHEESE", "<countable>"),
    "countable": ("EGGS", "APPLES", "TOMATOES"),
    "switch": ("ON", "OFF"),
    "device": ("LIGHT", "HEATING", "RADIO"),
    "room": ("KITCHEN", "BEDROOM", "BATHROOM", "GARDEN"),
    "shut": ("OPEN", "CLOSE"),
    "opening": ("WINDOW", "DOOR"),
    "task": ("WATER THE PLANTS", "PAY THE RENT", "WASH THE CAR", "FEED THE CAT", "BUY <item>"),
    "doctor": ("DOCTOR", "DENTIST"),
    "event": ("MEETING", "APPOINTMENT"),
    "anyone": ("<name>", "THE <doctor>", "<name> AND <name>"),
    "agenda": ("SHOPPING LIST", "LIST"),
}
"""Start symbol ``sentence``; each ``<symbol>`` becomes one of its alternatives, all as likely."""


def expand(symbol: str, rng: random.Random) -> str:
    """Draw one expansion of a grammar symbol."""
    alternative = rng.choice(GRAMMAR[symbol])
    return re.sub(r"<([\w-]+)>", lambda match: expand(match[1], rng), alternative)


def repeats_itself(sentence: str) -> bool:
    """Whether a word other than a number or a function word is said twice (MILK AND MILK)."""
    once = {word for symbol in ("name", "item", "countable", "task") for word in words_of(symbol)}
    counts = Counter(sentence.split())
    return any(counts[word] > 1 for word in once - {"THE"})


def words_of(symbol: str) -> set[str]:
    """The words that a symbol's alternatives spell out themselves."""
    return set(re.sub(r"<[\w-]+>", " ", " ".join(GRAMMAR[symbol])).split())


def vocabulary() -> set[str]:
    """Every word of the grammar."""
    return {word for symbol in GRAMMAR for word in words_of(symbol)}


def draw_sentences(count: int, rng: random.Random) -> list[str]:
    """Draw sentences of the grammar until ``count`` different ones are there."""
    sentences: dict[str, None] = {}  # keeps the order of drawing
    while len(sentences) < count:
        sentence = expand("sentence", rng)
        if not repeats_itself(sentence):
            sentences[sentence] = None
    return list(sentences)


# --- Who says it ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker."""

    id: int
    subset: str
    sex: str
    accent: str
    """Language tag of an espeak-ng voice."""
    variant: str
    """espeak-ng variant: formant shifts, voice quality; empty for the accent's own."""
    pitch: int
    """espeak-ng pitch, 0 to 99; 50 is the variant's own."""
    rate_wpm: int
    tract_percent: int
    """Speed at which the samples are played; 103 raises formants and pitch by 3 %."""

    @property
    def espeak_name(self) -> str:
        """The name that espeak-ng knows the voice by."""
        return f"{self.accent}+{self.variant}" if self.variant else self.accent

    @property
    def description(self) -> str:
        """What stands in the NAME column of SPEAKERS.TXT."""
        variant = f"variant {self.variant}" if self.variant else "no variant"
        settings = f"pitch {self.pitch}, {self.rate_wpm} wpm, tract {self.tract_percent} %"
        return f"espeak-ng {self.accent}, {variant}, {settings}"


def _voices(subset: str, first_id: int, table: str) -> tuple[Voice, ...]:
    """Read lines of ``sex accent variant pitch rate tract``; ``-`` is no variant."""
    rows = [line.split() for line in table.strip().splitlines()]
    return tuple(
        Voice(
            id=first_id + index,
            subset=subset,
            sex=sex,
            accent=accent,
            variant=variant.strip("-"),
            pitch=int(pitch),
            rate_wpm=int(rate),
            tract_percent=int(tract),
        )
        for index, (sex, accent, variant, pitch, rate, tract) in enumerate(rows)
    )


VOICES = (
    *_voices(
        "train-mini",
        1001,
        """
        M en-gb           -        50 170 100
        F en-gb           f1       48 165 101
        M en-gb           m3       42 180  98
        F en-gb           f4       55 175  97
        M en-us           -        46 165 103
        F en-us           f2       52 180 100
        M en-us           m1       55 175  97
        F en-us           f3       44 160 103
        M en-us           m7       38 185 101
        M en-gb-scotland  -        54 175  96
        F en-gb-scotland  f1       58 170  98
        M en-gb-scotland  m2       44 165 102
        F en-gb-scotland  f5       47 185 101
        M en-gb-x-rp      m1       48 185 101
        F en-gb-x-rp      f2       45 165  97
        M en-gb-x-rp      m5       56 160 104
        F en-gb-x-rp      f3       57 180 100
        M en-gb-x-gbclan  m4       50 170  99
        F en-gb-x-gbclan  f4       46 160 102
        M en-gb-x-gbclan  m6       40 175 103
        F en-gb-x-gbcwmd  f2       50 175 103
        M en-gb-x-gbcwmd  m3       52 165 100
        F en-029          f5       54 165  99
        M en-029          m4       45 180  96
        M en-029          -        58 170 102
        F en-us-nyc       f1       51 185 104
        M en-us-nyc       m2       47 170  98
        M en-us           klatt2   50 165 100
        """,
    ),
    *_voices(
        "dev-mini",
        2001,
        """
        F en-gb           f3       50 170  99
        M en-us           m4       50 175 101
        F en-gb-scotland  f2       52 165 101
        M en-gb-x-rp      m2       46 175  99
        F en-us-nyc       f4       49 180 100
        """,
    ),
    *_voices(
        "test-mini",
        3001,
        """
        M en-gb           m1       47 175 102
        F en-us           f5       50 170 101
        M en-gb-scotland  m4       50 170  99
        F en-gb-x-gbclan  f1       53 175 100
        M en-029          m3       49 175 101
        """,
    ),
)
"""Accents and variants of dev and test all occur in train, but never together, nor with the
same tract; each of their pitches, rates and tracts lies between those of train."""


# --- Synthesis ------------------------------------------------------------------------------


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of espeak-ng's ``speak_lib.h``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, the call returns after
_LIST_TERMINATED, _WORD = 0, 1  # espeak_EVENT_TYPE
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_CHARS_UTF8 = 1


@dataclass(frozen=True)
class Prosody:
    """How one utterance is spoken."""

    rate_wpm: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Speech:
    """Samples of a sentence and where each of its words begins."""

    samples: Samples
    sample_rate: int
    word_starts_s: tuple[float, ...]


class Espeak:
    """The espeak-ng library, which reports the words as it speaks them."""

    def __init__(self, library: str = "libespeak-ng.so.1") -> None:
        self._library = ctypes.CDLL(library)
        self._library.espeak_Info.restype = ctypes.c_char_p
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng does not start; install its voices (espeak-ng-data)")
        self._chunks: list[Samples] = []
        self._word_ms: dict[int, int] = {}  # position in the text -> ms
        self._callback = _SynthCallback(self._receive)  # kept: C calls it later
        self._library.espeak_SetSynthCallback(self._callback)

    @property
    def version(self) -> str:
        """Version of the library, such as 1.51."""
        return bytes(self._library.espeak_Info(None)).decode()

    def speak(self, sentence: str, voice: Voice, prosody: Prosody) -> Speech:
        """Synthesise an upper-case sentence.

        Raises:
            RuntimeError: espeak-ng lacks the voice, or did not report every word once.
        """
        self._choose(voice, prosody)
        self._chunks, self._word_ms = [], {}
        text = sentence.lower().encode()  # capitals might be spelled out
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        begins = [match.start() + 1 for match in re.finditer(r"\S+", sentence)]
        if sorted(self._word_ms) != begins:
            raise RuntimeError(f"espeak-ng reported {self._word_ms} for {sentence!r}")
        starts_s = tuple(self._word_ms[begin] / 1000 for begin in begins)
        return Speech(np.concatenate(self._chunks), self.sample_rate, starts_s)

    def _choose(self, voice: Voice, prosody: Prosody) -> None:
        if self._library.espeak_SetVoiceByName(voice.espeak_name.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice.espeak_name}")
        self._library.espeak_SetParameter(_RATE, prosody.rate_wpm, 0)
        self._library.espeak_SetParameter(_PITCH, prosody.pitch, 0)
        self._library.espeak_SetParameter(_RANGE, prosody.pitch_range, 0)

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]") -> int:
        if samples:
            chunk = np.ctypeslib.as_array(samples, (count,)).astype(np.float64)
            self._chunks.append(chunk / 32768)
        index = 0
        while events[index].type != _LIST_TERMINATED:
            if events[index].type == _WORD:
                self._word_ms[events[index].text_position] = events[index].audio_position_ms
            index += 1
        return 0  # go on


# --- The room -------------------------------------------------------------------------------
