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
import math
import random
import re
import shutil
import string
import struct
import sys
from collections.abc import Iterator, Sequence
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
UTTERANCES = {"train-mini": 34, "dev-mini": 17, "test-mini": 17}  # of each voice
TEMPLATE = Path(__file__).with_name("mini_readme.md.in")


# --- What is said ---------------------------------------------------------------------------

GRAMMAR: dict[str, tuple[str, ...]] = {
    "sentence": (
        "SET A TIMER FOR <minutes> MINUTES",
        "SET A TIMER FOR <minutes> MINUTES IN THE <room>",
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


def words_of(symbol: str) -> set[str]:
    """The words that a symbol's alternatives spell out themselves."""
    return set(re.sub(r"<[\w-]+>", " ", " ".join(GRAMMAR[symbol])).split())


VOCABULARY = frozenset(word for symbol in GRAMMAR for word in words_of(symbol))
SAID_ONCE = frozenset(word for s in ("name", "item", "countable", "task") for word in words_of(s))


def is_sensible(sentence: str) -> bool:
    """Whether a sentence has 3 to 12 words and lists nothing twice (MILK AND MILK)."""
    words = sentence.split()
    listed = [word for word in words if word in SAID_ONCE - {"THE"}]
    return 3 <= len(words) <= 12 and len(listed) == len(set(listed))


def draw_sentences(count: int, rng: random.Random) -> list[str]:
    """Draw ``count`` different sentences of the grammar, in random order."""
    sentences: dict[str, None] = {}  # a set that keeps the order of drawing
    while len(sentences) < count:
        sentence = expand("sentence", rng)
        if is_sensible(sentence):
            sentences[sentence] = None
    # The smaller families run dry early: without shuffling, the last sets would miss them.
    shuffled = list(sentences)
    rng.shuffle(shuffled)
    return shuffled


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
        """The name that espeak-ng knows the voice by; it calls British English plain ``en``."""
        accent = "en" if self.accent == "en-gb" else self.accent
        return f"{accent}+{self.variant}" if self.variant else accent

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
        F en-us           f5       50 170 100
        M en-gb-scotland  m4       50 170  98
        F en-gb-x-gbclan  f1       53 175 100
        M en-029          m3       49 175 101
        """,
    ),
)
"""Each accent and each variant of dev and test occurs in train, but never the two together, nor
a variant with the same tract. Their pitches, rates and tracts lie between those of train."""


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
_PHONEME_EVENTS = 1  # espeakINITIALIZE_PHONEME_EVENTS
_LIST_TERMINATED, _WORD, _PHONEME = 0, 1, 7  # espeak_EVENT_TYPE
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_CHARACTERS = 1  # POS_CHARACTER
_UTF8 = 1  # espeakCHARS_UTF8


@dataclass(frozen=True)
class Prosody:
    """How one utterance is spoken; the fields are espeak-ng's parameters."""

    rate_wpm: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Speech:
    """A sentence as samples in [-1, 1] and where it and its words begin and end."""

    samples: Samples
    sample_rate: int
    boundaries_s: tuple[float, ...]
    """Start of each word, then the end of the last; one more than words."""


@dataclass(frozen=True)
class Mark:
    """A word or phoneme that the synthesiser reports."""

    position: int
    """Of the word in the text, in characters from 1."""
    start_s: float
    phoneme: str = ""
    """Empty for a word."""


class Espeak:
    """The espeak-ng library, which reports words and phonemes while it speaks them."""

    def __init__(self, library: str = "libespeak-ng.so.1") -> None:
        self._library = ctypes.CDLL(library)
        self._library.espeak_Info.restype = ctypes.c_char_p
        self.sample_rate: int = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, None, _PHONEME_EVENTS
        )
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng does not start; install espeak-ng-data")
        self._chunks: list[Samples] = []
        self._marks: list[Mark] = []
        self._callback = _SynthCallback(self._receive)  # kept alive: C calls it later
        self._library.espeak_SetSynthCallback(self._callback)

    @property
    def version(self) -> str:
        """Version of the library, such as 1.51."""
        return bytes(self._library.espeak_Info(None)).decode()

    def speak(self, sentence: str, voice: Voice, prosody: Prosody) -> Speech:
        """Synthesise an upper-case sentence.

        Raises:
            RuntimeError: espeak-ng lacks the voice, or does not report every word.
        """
        self._choose(voice, prosody)
        self._chunks, self._marks = [], []
        text = sentence.lower().encode()  # capitals might be spelled out
        self._library.espeak_Synth(text, len(text) + 1, 0, _CHARACTERS, 0, _UTF8, None, None)
        samples = np.concatenate(self._chunks)
        end_s = speech_end(samples) / self.sample_rate
        boundaries_s = (*word_starts(sentence, self._marks), end_s)
        return Speech(samples, self.sample_rate, boundaries_s)

    def _choose(self, voice: Voice, prosody: Prosody) -> None:
        if self._library.espeak_SetVoiceByName(voice.espeak_name.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice.espeak_name}")
        self._library.espeak_SetParameter(_RATE, prosody.rate_wpm, 0)
        self._library.espeak_SetParameter(_PITCH, prosody.pitch, 0)
        self._library.espeak_SetParameter(_RANGE, prosody.pitch_range, 0)

    def _receive(
        self,
        samples: "ctypes._Pointer[ctypes.c_short]",
        count: int,
        events: "ctypes._Pointer[_Event]",
    ) -> int:
        """Keep one piece of sound and its marks; called by espeak-ng."""
        if samples:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)) / 32768)
        for event in _until_terminated(events):
            start_s = event.audio_position_ms / 1000
            if event.type == _WORD:
                self._marks.append(Mark(event.text_position, start_s))
            elif event.type == _PHONEME:
                phoneme = event.id.string.decode()
                self._marks.append(Mark(event.text_position, start_s, phoneme))
        return 0  # 1 would stop the synthesis


def _until_terminated(events: "ctypes._Pointer[_Event]") -> Iterator[_Event]:
    index = 0
    while events[index].type != _LIST_TERMINATED:
        yield events[index]
        index += 1


def word_starts(sentence: str, marks: Sequence[Mark]) -> list[float]:
    """Start of each word in seconds, from what the synthesiser reported.

    espeak-ng speaks "in the", "on the" and "with the" as one word and reports that word
    alone; THE then begins at the last d or dh among the phonemes of the pair.

    Raises:
        RuntimeError: a word was not reported.
    """
    reported = {mark.position: mark.start_s for mark in marks if not mark.phoneme}
    starts: list[float] = []
    before = 0
    for match in re.finditer(r"\S+", sentence):
        position = match.start() + 1
        if position in reported:
            starts.append(reported[position])
        elif match[0] == "THE":
            starts.append(_last_dental(marks, before))
        else:
            raise RuntimeError(f"espeak-ng did not report {match[0]} of {sentence!r}")
        before = position
    return starts


def _last_dental(marks: Sequence[Mark], position: int) -> float:
    return [m.start_s for m in marks if m.position == position and m.phoneme in ("D", "d")][-1]


def speech_end(samples: Samples) -> int:
    """Index after the last sample above -46 dB of the peak; silence follows."""
    loud = np.flatnonzero(np.abs(samples) > 0.005 * np.abs(samples).max())
    return int(loud[-1]) + 1


# --- The room -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Utterance:
    """A recording of the corpus before it is encoded."""

    id: str
    voice: Voice
    words: tuple[str, ...]
    samples: Samples
    """At ``SAMPLE_RATE``, in [-1, 1]."""
    boundaries_s: tuple[float, ...]
    """Start of each word, then the end of the last."""

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return len(self.samples) / SAMPLE_RATE


def record(espeak: Espeak, utterance_id: str, voice: Voice, sentence: str) -> Utterance:
    """Speak a sentence and put it into a quiet room, everything drawn from the id."""
    rng = random.Random(f"{SEED} {utterance_id}")
    prosody = Prosody(
        rate_wpm=voice.rate_wpm + rng.randint(-6, 6),
        pitch=voice.pitch + rng.randint(-3, 3),
        pitch_range=rng.randint(40, 65),
    )
    speech = espeak.speak(sentence, voice, prosody)
    samples, stretch = at_storage_rate(speech, voice.tract_percent)
    before_s, after_s = rng.uniform(0.08, 0.20), rng.uniform(0.10, 0.25)
    end = round(speech.boundaries_s[-1] * stretch * SAMPLE_RATE)
    padding = (round(before_s * SAMPLE_RATE), round(after_s * SAMPLE_RATE))
    return Utterance(
        id=utterance_id,
        voice=voice,
        words=tuple(sentence.split()),
        samples=in_room(np.pad(samples[:end], padding), rng),
        boundaries_s=tuple(before_s + second * stretch for second in speech.boundaries_s),
    )


def at_storage_rate(speech: Speech, tract_percent: int) -> tuple[Samples, float]:
    """Resample, playing faster by ``tract_percent``; also returns new duration / old."""
    up, down = SAMPLE_RATE * 100, speech.sample_rate * tract_percent
    divisor = math.gcd(up, down)
    samples = resample_poly(speech.samples, up // divisor, down // divisor)
    return samples, 100 / tract_percent


def in_room(samples: Samples, rng: random.Random) -> Samples:
    """Set a level of -28 to -20 dB and add noise that is 25 to 40 dB weaker."""
    level = decibels(rng.uniform(-28, -20))
    speech = samples * level / np.sqrt(np.mean(samples**2))
    # RandomState: its streams are frozen, those of default_rng may change with numpy.
    white = np.random.RandomState(rng.getrandbits(32)).standard_normal(len(samples))
    noise = lfilter([1.0], [1.0, -0.8], white)  # falls towards high frequencies, as rooms do
    noise *= level * decibels(-rng.uniform(25, 40)) / noise.std()
    return np.clip(speech + noise, -1, 1)


def decibels(value: float) -> float:
    """Amplitude ratio of a level."""
    return float(10 ** (value / 20))


# --- Files ----------------------------------------------------------------------------------


def encode(samples: Samples) -> bytes:
    """Opus in Ogg at ``SAMPLE_RATE``; the same samples give the same bytes."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        samples.astype(np.float32),
        SAMPLE_RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=OPUS_COMPRESSION,
    )
    return b"".join(_plain_page(page) for page in _ogg_pages(buffer.getvalue()))


def _ogg_pages(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        segments = data[start + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        yield data[start:end]
        start = end


def _plain_page(page: bytes) -> bytes:
    """Make an Ogg page reproducible: serial number 1, no tags nor their padding (RFC 7845).

    libsndfile draws the serial number at random and pads the tags by 700 bytes.
    """
    body = page[27 + page[26] :]
    if body.startswith(b"OpusTags"):
        vendor_end = 12 + int.from_bytes(body[8:12], "little")
        body = body[:vendor_end] + bytes(4)  # no comments
        page = page[:26] + bytes([1, len(body)]) + body
    page = page[:14] + struct.pack("<I", 1) + page[18:22] + bytes(4) + page[26:]
    return page[:22] + struct.pack("<I", _ogg_crc(page)) + page[26:]


def _crc_of_byte(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


_CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]


def _ogg_crc(page: bytes) -> int:
    """Checksum of RFC 3533: not zlib's, whose bits are reflected."""
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC_TABLE[crc >> 24 ^ byte]
    return crc


def ctm_lines(utterance: Utterance) -> str:
    """Word times, ``<utterance> 1 <start> <duration> <word>``, in seconds."""
    ms = [round(1000 * second) for second in utterance.boundaries_s]
    return "".join(
        f"{utterance.id} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} {word}\n"
        for start, end, word in zip(ms, ms[1:], utterance.words, strict=False)
    )


def write_chapter(folder: Path, utterances: Sequence[Utterance]) -> None:
    """Write the recordings of one speaker and chapter with their transcripts."""
    folder.mkdir(parents=True)
    for utterance in utterances:
        (folder / f"{utterance.id}.opus").write_bytes(encode(utterance.samples))
    chapter = utterances[0].id.rpartition("-")[0]
    lines = [f"{utterance.id} {' '.join(utterance.words)}\n" for utterance in utterances]
    (folder / f"{chapter}.trans.txt").write_text("".join(lines))


def speakers_table(utterances: Sequence[Utterance]) -> str:
    """The content of SPEAKERS.TXT."""
    minutes = dict.fromkeys((voice.id for voice in VOICES), 0.0)
    for utterance in utterances:
        minutes[utterance.voice.id] += utterance.duration_s / 60
    rows = [
        f"{voice.id} | {voice.sex} | {voice.subset:<10} | {minutes[voice.id]:5.2f}"
        f" | {voice.description}\n"
        for voice in VOICES
    ]
    head = "; The voices of a synthetic corpus; NAME says how each was made.\n;\n"
    return head + ";ID  |SEX| SUBSET     |MINUTES| NAME\n" + "".join(rows)


def write_checksums(folder: Path) -> None:
    """List every file in SHA256SUMS, for ``sha256sum -c``."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


# --- The README -----------------------------------------------------------------------------


def voices_rows() -> str:
    """Rows of the README's table of voices."""
    return "\n".join(
        f"| {v.id} | {v.subset} | {v.sex} | {v.accent} | {v.variant or '-'} | {v.pitch}"
        f" | {v.rate_wpm} | {v.tract_percent} |"
        for v in VOICES
    )


def set_rows(utterances: Sequence[Utterance]) -> str:
    """Rows of the README's table of sets: voices, sentences, words, word types, minutes."""
    rows = []
    for subset in UTTERANCES:
        chosen = [utterance for utterance in utterances if utterance.voice.subset == subset]
        women = len({u.voice for u in chosen if u.voice.sex == "F"})
        men = len({u.voice for u in chosen if u.voice.sex == "M"})
        words = [word for utterance in chosen for word in utterance.words]
        minutes = sum(utterance.duration_s for utterance in chosen) / 60
        counts = f"{len(chosen)} | {len(words)} | {len(set(words))} | {minutes:.1f}"
        rows.append(f"| {subset} | {women} F, {men} M | {counts} |")
    return "\n".join(rows)


def grammar_rules() -> str:
    """The grammar as the README prints it."""
    sentences = "\n".join(GRAMMAR["sentence"])
    others = [f"<{name}> = {' | '.join(rule)}" for name, rule in GRAMMAR.items()]
    return sentences + "\n\n" + "\n".join(others[1:])


def readme(utterances: Sequence[Utterance], espeak: Espeak) -> str:
    """Fill the template with what was made."""
    durations = [utterance.duration_s for utterance in utterances]
    return string.Template(TEMPLATE.read_text()).substitute(
        sets=set_rows(utterances),
        voices=voices_rows(),
        voice_count=len(VOICES),
        accent_count=len({voice.accent for voice in VOICES}),
        grammar=grammar_rules(),
        word_types=len(VOCABULARY),
        shortest=f"{min(durations):.1f}",
        longest=f"{max(durations):.1f}",
        mean=f"{sum(durations) / len(durations):.1f}",
        espeak=espeak.version,
        libsndfile=soundfile.__libsndfile_version__,
        seed=SEED,
    )


# --- All of it ------------------------------------------------------------------------------


def plan() -> list[tuple[str, Voice, str]]:
    """Utterance id, voice and sentence of every recording."""
    total = sum(UTTERANCES[voice.subset] for voice in VOICES)
    sentences = iter(draw_sentences(total, random.Random(SEED)))
    return [
        (f"{voice.id}-{CHAPTER}-{number:04d}", voice, next(sentences))
        for voice in VOICES
        for number in range(UTTERANCES[voice.subset])
    ]


def make(folder: Path) -> None:
    """Write the corpus into an empty folder."""
    espeak = Espeak()
    utterances = [record(espeak, *planned) for planned in plan()]
    for voice in VOICES:
        own = [utterance for utterance in utterances if utterance.voice == voice]
        print(f"{voice.id}: {voice.description}", file=sys.stderr)
        write_chapter(folder / voice.subset / str(voice.id) / str(CHAPTER), own)
    for subset in UTTERANCES:
        times = [ctm_lines(u) for u in utterances if u.voice.subset == subset]
        (folder / f"{subset}.ctm").write_text("".join(times))
    (folder / "SPEAKERS.TXT").write_text(speakers_table(utterances))
    (folder / "README.md").write_text(readme(utterances, espeak))
    write_checksums(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the corpus beside ``--out``, then put it there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to make or to replace")
    out: Path = parser.parse_args(argv).out
    if out.exists() and not (out / "SPEAKERS.TXT").exists():
        parser.error(f"{out} exists and is not a corpus; name another folder")
    new = out.with_name(f".{out.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    make(new)
    shutil.rmtree(out, ignore_errors=True)
    new.rename(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
