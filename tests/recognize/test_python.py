"""The Python interface: examples of the docstrings, clips, and several threads at once."""

import doctest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr import loading
from asr.config import DecodeConfig
from asr.errors import InputError
from asr.recognize import recognizer

RATE = 16000
QUICK = DecodeConfig(beam=2, max_ratio=0.1)


def test_the_examples_of_the_docstrings(model, audio, monkeypatch):
    soundfile.write(
        audio / "talk.wav", np.random.default_rng(0).normal(0, 0.1, round(2.4 * RATE)), RATE
    )
    (audio / "exp" / "las").mkdir()
    Path(model, "final.safetensors").rename(audio / "exp" / "las" / "final.safetensors")
    monkeypatch.chdir(audio)
    results = [doctest.testmod(each) for each in (loading, recognizer)]
    assert sum(each.attempted for each in results) >= 15
    assert not any(each.failed for each in results)


def test_clips_are_stretches_and_channels(model, tmp_path):
    recognizer = asr.load(model, "cpu", QUICK)
    both = np.random.default_rng(0).normal(0, 0.1, (2 * RATE, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", both, RATE, subtype="FLOAT")
    part = recognizer.transcribe(asr.Clip(tmp_path / "a.wav", 0.5, 1.5, channel=2))
    expected = recognizer.transcribe((both[RATE // 2 : 3 * RATE // 2, 1], RATE))
    assert part.text == expected.text and part.duration_s == 1.0


@pytest.mark.parametrize("cmvn", ["none", "speaker"])
def test_two_threads_may_share_a_recogniser(save, cmvn):
    recognizer = asr.load(save(cmvn), "cpu", QUICK)
    generator = np.random.default_rng(0)
    sources = [(generator.normal(0, 0.1, 3000 * n), RATE) for n in range(2, 8)]
    expected = [recognizer.transcribe(source).to_dict() for source in sources]

    def work(offset):
        order = [(offset + i) % len(sources) for i in range(len(sources))]
        found = recognizer.transcribe([sources[i] for i in order])
        streamed = [list(recognizer.stream([sources[i][0]], RATE)) for i in order]
        return order, [t.to_dict() for t in found], [s[0].text for s in streamed]

    with ThreadPoolExecutor(2) as pool:
        for order, found, streamed in pool.map(work, range(4)):
            assert found == [expected[i] for i in order]
            assert streamed == [expected[i]["text"] for i in order]


def test_progress_is_reported_in_seconds(model, audio):
    recognizer, heard = asr.load(model, "cpu", QUICK), []
    list(recognizer.transcribe_each([audio / "a.wav", audio / "b.wav"], report=heard.append))
    assert sum(heard) == pytest.approx(1.3)


def test_scores_that_are_not_finite_fail_for_their_input_alone(model, monkeypatch):
    recognizer = asr.load(model, "cpu", QUICK)
    original = recognizer.utterance_recognizer.recognize

    def broken(chunks, **options):
        if any(chunk.end_s == 0.5 for chunk in chunks):
            raise InputError("the score of ctc is nan")
        return original(chunks, **options)

    monkeypatch.setattr(recognizer.utterance_recognizer, "recognize", broken)
    sources = [(np.ones(RATE // n, np.float32), RATE) for n in (1, 2, 4)]
    first, second, third = recognizer.transcribe_each(sources)
    assert (first.duration_s, third.duration_s) == (1.0, 0.25)
    assert isinstance(second, InputError)


def test_results_come_in_the_order_of_the_inputs(model):
    recognizer = asr.load(model, "cpu", QUICK)
    sources = [(np.ones(RATE // n, np.float32), RATE) for n in (1, 4, 2, 8)]
    assert [t.duration_s for t in recognizer.transcribe(sources)] == [1.0, 0.25, 0.5, 0.125]
