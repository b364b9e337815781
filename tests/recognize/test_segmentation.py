"""Segmentation: no speech is lost or doubled, and the lengths are bounded."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from asr.audio import clip
from asr.config import SegmentationConfig
from asr.errors import InputError
from asr.model import vad as silero
from asr.model.vad import SileroDetector
from asr.recognize.segmentation import make_segmenter, quietest

RATE = 1000  # of the made-up sounds
MINI = Path(__file__).parents[2] / "data" / "mini"


def sound(*parts):
    """Seconds of sound, then of silence, and so on."""
    noise = np.random.default_rng(0)
    pieces = [
        (noise.random(round(s * RATE), np.float32) + np.float32(0.1)) * (i % 2 == 0)
        for i, s in enumerate(parts)
    ]
    return np.concatenate(pieces)


def split(waveform, size):
    return [waveform[start : start + size] for start in range(0, len(waveform), size)]


def cut(waveform, size=700, rate=RATE, detector=None, **settings):
    """Chunks of a waveform that arrives in blocks."""
    if settings.get("vad", "silero") == "silero":
        settings = {"pause_s": 1.0, **settings}
    config = SegmentationConfig(**settings)
    segmenter = make_segmenter(config, rate, detector or silero.SileroDetector)
    found = [piece for block in split(waveform, size) for piece in segmenter.push(block)]
    found += segmenter.close()
    for piece in found:
        assert np.array_equal(piece.waveform, waveform[piece.start : piece.end])
    for one, two in pairwise(found):
        assert one.end <= two.start
    return found


def times(pieces, rate=RATE):
    return [(piece.start / rate, piece.end / rate) for piece in pieces]


def near(*expected):
    """Times to a chunk of the detector."""
    return [pytest.approx(pair, abs=0.033) for pair in expected]


def test_the_quietest_place():
    window = np.ones(1000)
    window[600:800] = 0.01
    assert quietest(window, RATE) == 700
    assert quietest(np.ones(50), RATE) == 25


@pytest.mark.parametrize("size", [1, 32, 700, 10**6])
def test_speech_is_padded_and_long_pauses_divide_it(size):
    found = times(cut(sound(0, 1, 2, 2, 1.5, 1), size))
    assert found == near((0.7, 3.3), (4.7, 6.8))


def test_padding_ends_where_the_audio_ends():
    assert times(cut(sound(2))) == [(0.0, 2.0)]
    assert times(cut(sound(0, 0.1, 2, 0.1))) == [(0.0, pytest.approx(2.2))]


def test_a_short_pause_divides_only_a_long_segment():
    short = times(cut(sound(2, 0.5, 2)))
    assert short == [(0.0, 4.5)]
    long = times(cut(sound(11, 0.5, 2)))  # 0.27 s are enough after 11 of 15 s
    assert long == near((0.0, 11.25), (11.25, 13.5))  # the pause is shared


def test_a_gap_within_a_word_divides_not_even_a_long_segment():
    assert len(cut(sound(14.5, 0.1, 0.3))) == 1


def test_long_speech_is_cut_at_its_quietest_place():
    waveform = sound(40)
    waveform[2000:2300] *= 0.05  # in the first half of the longest segment, which is not cut
    waveform[12000:12300] *= 0.1
    waveform[22000:22300] *= 0.1
    found = times(cut(waveform))
    assert found[0] == (0.0, pytest.approx(12.15, abs=0.1))
    assert found[1] == (found[0][1], pytest.approx(22.15, abs=0.1))
    assert found[-1][1] == 40.0
    assert all(end - start < 15.1 for start, end in found)
    joined = np.concatenate([piece.waveform for piece in cut(waveform)])
    assert np.array_equal(joined, waveform)


def test_the_first_part_of_long_speech_is_padded():
    assert times(cut(sound(0, 2, 20)))[0][0] == pytest.approx(1.7, abs=0.033)


def test_silence_and_clicks_give_no_chunks():
    assert cut(np.zeros(5000)) == []
    assert cut(np.zeros(0)) == []
    assert cut(sound(0, 2, 0.03, 2)) == []
    assert cut(sound(0.03, 2)) == []


def test_speech_after_a_click_is_padded():
    found = cut(sound(0, 2, 0.03, 0.3, 1), size=32, pause_s=0.2)
    assert times(found) == near((2.03, 3.33))


@pytest.mark.parametrize("vad", ["silero", "fixed"])
def test_memory_is_bounded(vad):
    segmenter = make_segmenter(SegmentationConfig(vad=vad), RATE, silero.SileroDetector)
    endless = (sound(100), np.zeros(100 * RATE), sound(*[3, 0.5] * 30), sound(*[0.05, 0.5] * 99))
    for waveform in endless:
        for block in split(waveform, 100):
            list(segmenter.push(block))
            assert len(segmenter.buffer.samples) <= (17 if vad == "silero" else 31) * RATE


def test_fixed_chunks_cover_everything():
    assert times(cut(np.ones(30 * RATE), vad="fixed")) == [(0.0, 30.0)]
    long = np.ones(70 * RATE)
    long[24900:25100] = long[49900:50100] = 0.0  # pauses at 25 s and at 50 s
    found = cut(long, vad="fixed")
    assert times(found) == near((0.0, 25.0), (25.0, 50.0), (50.0, 70.0))
    assert np.array_equal(np.concatenate([piece.waveform for piece in found]), long)


def test_whole_chunks_have_a_limit():
    assert times(cut(np.ones(60 * RATE), vad="none")) == [(0.0, 60.0)]
    with pytest.raises(InputError, match=r"longer than 60 s, .* --vad silero or fixed"):
        cut(np.ones(61 * RATE), vad="none")


def test_without_a_detector_only_fixed_segmentation_works():
    segmenter = make_segmenter(SegmentationConfig(vad="fixed"), RATE, None)
    assert list(segmenter.close()) == []
    assert list(segmenter.push(np.ones(RATE))) == []
    assert times(segmenter.close()) == [(0.0, 1.0)]
    with pytest.raises(InputError, match=r"no speech detector here; .* --vad fixed"):
        make_segmenter(SegmentationConfig(), RATE, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pause_s": 20.0}, r"pause_s = 20\.0, expected at most longest_s = 15"),
        ({"vad": "fixed", "longest_s": 5.0}, r"longest_s = 5\.0, expected 15, the default"),
        ({"vad": "none", "threshold": 0.3}, r"threshold = 0\.3, .* only vad = silero reads it"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SegmentationConfig(**settings)


@pytest.mark.parametrize(
    "settings", [{"threshold": 0.1}, {"pause_s": 0.0}, {"padding_s": -1.0}, {"longest_s": 0.5}]
)
def test_settings_out_of_range(settings):
    name, value = next(iter(settings.items()))
    with pytest.raises(InputError, match=f"{name} = {value}, expected"):
        SegmentationConfig(**settings)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_sentences_are_found_in_noise(rate):
    """The real detector finds every sentence of the bundled corpus, and little else."""
    files = sorted((MINI / "test-mini").rglob("*.opus"))[:6]
    gap = np.random.default_rng(0).normal(0, 0.001, 2 * rate).astype(np.float32)
    waveform, places = gap, []
    for file in files:
        speech = clip.read(file, sample_rate=rate)
        places.append((len(waveform), len(waveform) + len(speech)))
        waveform = np.concatenate([waveform, speech, gap])
    found = cut(waveform, rate * 3, rate, detector=SileroDetector)
    assert len(found) == len(files)
    for piece, (start, end) in zip(found, places, strict=True):
        outside = np.concatenate([waveform[start : piece.start], waveform[piece.end : end]])
        assert np.square(outside).sum() < 1e-3 * np.square(waveform[start:end]).sum()
        assert piece.end - piece.start < end - start + 0.8 * rate
