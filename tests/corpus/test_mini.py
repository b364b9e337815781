"""The bundled corpus ``data/mini`` is complete, disjoint, small, and matches its generator."""

import hashlib
import importlib.util
import io
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

DATA = Path(__file__).parents[2] / "data"
MINI = DATA / "mini"
SETS = ("train-mini", "dev-mini", "test-mini")
MEGABYTE = 10**6


def read_transcripts(subset: str) -> dict[str, str]:
    lines = [
        line.split(maxsplit=1)
        for path in sorted((MINI / subset).glob("*/*/*.trans.txt"))
        for line in path.read_text().splitlines()
    ]
    assert len({utterance for utterance, _ in lines}) == len(lines)
    return dict(lines)


def read_speakers() -> list[list[str]]:
    lines = (MINI / "SPEAKERS.TXT").read_text().splitlines()
    return [[field.strip() for field in line.split("|")] for line in lines if line[0] != ";"]


def read_ctm(subset: str) -> dict[str, list[tuple[float, float, str]]]:
    words: dict[str, list[tuple[float, float, str]]] = {}
    for line in (MINI / f"{subset}.ctm").read_text().splitlines():
        utterance, channel, start, duration, word = line.split()
        assert channel == "1"
        words.setdefault(utterance, []).append((float(start), float(duration), word))
    return words


@pytest.fixture(scope="module")
def transcripts() -> dict[str, dict[str, str]]:
    return {subset: read_transcripts(subset) for subset in SETS}


@pytest.fixture(scope="module")
def durations_s() -> dict[str, dict[str, float]]:
    return {
        subset: {
            path.stem: soundfile.info(path).duration for path in (MINI / subset).glob("*/*/*.opus")
        }
        for subset in SETS
    }


@pytest.fixture(scope="module")
def make_mini() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_mini", DATA / "make_mini.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_mini"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def words_of(transcripts: dict[str, str]) -> Counter[str]:
    return Counter(word for text in transcripts.values() for word in text.split())


@pytest.mark.parametrize("subset", SETS)
def test_every_transcript_has_audio_and_the_reverse(subset, transcripts, durations_s):
    assert transcripts[subset].keys() == durations_s[subset].keys()


@pytest.mark.parametrize("subset", SETS)
def test_files_lie_where_their_names_say(subset):
    for path in (MINI / subset).glob("*/*/*.opus"):
        speaker, chapter, _ = path.stem.split("-")
        assert path.parent == MINI / subset / speaker / chapter


def test_nothing_lies_around_that_the_checksums_do_not_list():
    listed = dict(
        reversed(line.split(maxsplit=1)) for line in (MINI / "SHA256SUMS").read_text().splitlines()
    )
    there = {
        str(path.relative_to(MINI)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in MINI.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert there == listed


def test_speakers_table_lists_the_speakers_of_each_set(durations_s):
    rows = read_speakers()
    for subset in SETS:
        listed = {speaker for speaker, _, row_subset, *_ in rows if row_subset == subset}
        assert listed == {path.name for path in (MINI / subset).iterdir()}
        assert {sex for _, sex, row_subset, *_ in rows if row_subset == subset} == {"F", "M"}


def test_speakers_table_has_the_minutes_of_the_audio(durations_s):
    for speaker, _, subset, minutes, _ in read_speakers():
        total_s = sum(s for utt, s in durations_s[subset].items() if utt.startswith(speaker))
        assert float(minutes) == pytest.approx(total_s / 60, abs=0.006)


def test_a_voice_is_in_one_set(make_mini):
    """Neither an accent with a variant nor a variant with a tract is in two sets."""
    for features in ("accent", "variant"), ("variant", "tract_percent"):
        sets: dict[tuple, set[str]] = {}
        for voice in make_mini.VOICES:
            key = tuple(getattr(voice, feature) for feature in features)
            sets.setdefault(key, set()).add(voice.subset)
        assert all(len(subsets) == 1 for subsets in sets.values())


def test_no_sentence_occurs_twice(transcripts):
    sentences = [text for subset in SETS for text in transcripts[subset].values()]
    assert len(set(sentences)) == len(sentences)


def test_training_has_every_word(transcripts):
    train = words_of(transcripts["train-mini"])
    assert 90 <= len(train) <= 110
    assert min(train.values()) >= 10
    assert words_of(transcripts["dev-mini"]).keys() <= train.keys()
    assert words_of(transcripts["test-mini"]).keys() <= train.keys()


def test_sizes(transcripts, durations_s):
    minutes = {subset: sum(durations_s[subset].values()) / 60 for subset in SETS}
    assert 38 <= minutes["train-mini"] <= 44
    assert 3 <= minutes["dev-mini"] <= 4.5
    assert 3 <= minutes["test-mini"] <= 4.5
    assert all(1 <= s <= 6 for subset in SETS for s in durations_s[subset].values())
    files = [path for path in MINI.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 * MEGABYTE


@pytest.mark.parametrize("subset", SETS)
def test_word_times_spell_the_transcripts(subset, transcripts):
    spelled = {utt: " ".join(w for _, _, w in words) for utt, words in read_ctm(subset).items()}
    assert spelled == transcripts[subset]


@pytest.mark.parametrize("subset", SETS)
def test_words_follow_each_other_within_the_audio(subset, durations_s):
    for utterance, words in read_ctm(subset).items():
        assert 0.08 <= words[0][0] <= 0.25
        assert all(0.03 < duration < 1 for _, duration, _ in words)
        for (start, duration, _), (next_start, *_) in pairwise(words):
            assert start + duration == pytest.approx(next_start, abs=1e-6)
        end_s = words[-1][0] + words[-1][1]
        assert 0.09 <= durations_s[subset][utterance] - end_s <= 0.26


def test_speech_lies_between_the_first_and_last_word_time():
    """Heard, not only counted: the margins are at least 20 dB weaker than the words."""
    for utterance, words in read_ctm("test-mini").items():
        speaker, chapter, _ = utterance.split("-")
        path = MINI / "test-mini" / speaker / chapter / f"{utterance}.opus"
        samples, rate = soundfile.read(path)
        start, end = round(words[0][0] * rate), round((words[-1][0] + words[-1][1]) * rate)
        margins = np.concatenate([samples[: start - 160], samples[end + 320 :]])
        assert np.mean(margins**2) < 0.01 * np.mean(samples[start:end] ** 2)


def test_audio_decodes_at_16_khz_mono():
    path = next((MINI / "test-mini").glob("*/*/*.opus"))
    info = soundfile.info(path)
    assert (info.samplerate, info.channels) == (16000, 1)
    samples, rate = soundfile.read(path)
    assert rate == 16000
    assert len(samples) == info.frames


def test_the_generator_still_plans_these_transcripts(make_mini, transcripts):
    planned = {utterance: sentence for utterance, _, sentence in make_mini.plan()}
    assert planned == {utt: text for subset in SETS for utt, text in transcripts[subset].items()}


def test_encoding_twice_gives_the_same_bytes_and_the_sound(make_mini):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    encoded = make_mini.encode(tone)
    assert encoded == make_mini.encode(tone)
    decoded, rate = soundfile.read(io.BytesIO(encoded))
    assert (len(decoded), rate) == (16000, 16000)
    assert np.corrcoef(tone[1000:-1000], decoded[1000:-1000])[0, 1] > 0.95


def test_the_checksum_of_ogg_pages_is_the_one_libogg_wrote(make_mini):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16000), 16000, format="OGG", subtype="OPUS")
    for page in make_mini._ogg_pages(buffer.getvalue()):
        blank = page[:22] + bytes(4) + page[26:]
        assert make_mini._ogg_crc(blank) == int.from_bytes(page[22:26], "little")


def test_a_pair_spoken_as_one_word_is_split_at_its_last_d(make_mini):
    mark = make_mini.Mark
    marks = [
        *(mark(1, 0.0), mark(1, 0.0, "p"), mark(1, 0.1, "eI")),
        *(mark(6, 0.2), mark(6, 0.2, "I"), mark(6, 0.3, "n"), mark(6, 0.4, "D")),
        *(mark(13, 0.5), mark(13, 0.5, "h"), mark(0, 0.9)),  # position 0: end of the text
    ]
    assert make_mini.word_starts("PLAY IN THE HALL", marks) == [0.0, 0.2, 0.4, 0.5]


def test_a_word_that_was_not_reported_is_an_error(make_mini):
    with pytest.raises(RuntimeError, match="did not report HALL"):
        make_mini.word_starts("PLAY HALL", [make_mini.Mark(1, 0.0)])
