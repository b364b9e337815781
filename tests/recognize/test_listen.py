"""Near-live use: segments come when a pause ends them, from a file in place of a microphone."""

import signal
import sys
import types

import numpy as np
import pytest

import asr
from asr.commands import listen
from asr.config import DecodeConfig, SegmentationConfig
from asr.errors import InputError
from asr.recognize.recognizer import Recognizer

RATE = 16000


def speech(*seconds):
    """Noise of these lengths, each followed by a second of silence."""
    generator = np.random.default_rng(0)
    parts = [(generator.normal(0, 0.1, round(s * RATE)), np.zeros(RATE)) for s in seconds]
    return np.concatenate([part for both in parts for part in both]).astype(np.float32)


@pytest.fixture
def recognizer(model):
    return asr.load(model, "cpu", DecodeConfig(beam=1, ctc_weight=0.0, max_ratio=0.05))


def test_segments_come_when_a_pause_ends_them(recognizer):
    samples, heard = speech(2.0, 3.0, 1.0), 0

    def chunks():
        nonlocal heard
        for start in range(0, len(samples), 1000):
            heard = start + 1000
            yield samples[start : start + 1000]

    for segment in recognizer.stream(chunks(), RATE):
        pause = recognizer.segmentation.pause_s
        assert heard / RATE <= segment.end_s + pause + 0.1


def test_a_stream_has_the_segments_of_the_file(recognizer):
    samples = speech(2.0, 3.0, 1.0)
    whole = recognizer.transcribe((samples, RATE)).segments
    assert len(whole) == 3
    for size in (160, 50000):
        chunks = (samples[start : start + size] for start in range(0, len(samples), size))
        found = list(recognizer.stream(chunks))
        assert [(s.start_s, s.end_s, s.text) for s in found] == [
            (s.start_s, s.end_s, s.text) for s in whole
        ]


def test_delay_is_bounded_without_a_pause(recognizer):
    short = Recognizer(
        recognizer.utterance_recognizer, SegmentationConfig(longest_s=3.0), recognizer.make_detector
    )
    generator, heard = np.random.default_rng(0), 0

    def endless():
        nonlocal heard
        while True:
            heard += 1600
            yield generator.normal(0, 0.1, 1600).astype(np.float32)

    for segment, _ in zip(short.stream(endless(), RATE), range(3), strict=False):
        assert heard / RATE - segment.start_s <= 3.2


@pytest.mark.parametrize("rate", [8000, 48000])
def test_other_rates_and_integers_and_stereo(recognizer, rate):
    samples = np.random.default_rng(0).integers(-9000, 9000, (2 * rate, 2), dtype=np.int16)
    (segment,) = recognizer.stream([samples[:rate], samples[rate:]], rate)
    assert segment.end_s == pytest.approx(2.0, abs=0.01)


def test_streams_of_models_with_speaker_statistics(save):
    recognizer = asr.load(save("speaker"), "cpu", DecodeConfig(beam=1, max_ratio=0.05))
    assert len(list(recognizer.stream([speech(1.0, 1.0)], RATE))) == 2


def test_bad_chunks_are_refused(recognizer):
    with pytest.raises(InputError, match="expected finite numbers"):
        list(recognizer.stream([np.full(100, np.nan)], RATE))
    with pytest.raises(InputError, match="a rate of 0"):
        list(recognizer.stream([np.zeros(100)], 0))


# asr listen


def source(rate, stop):
    """Blocks of a microphone; Ctrl-C ends them in the middle of the second speech."""

    def blocks():
        samples = speech(1.0, 9.0)
        for start in range(0, len(samples), 1600):
            if start > 3 * rate:
                signal.raise_signal(signal.SIGINT)
            if stop.is_set():
                return
            yield samples[start : start + 1600]

    return RATE, blocks()


def test_listen_prints_the_last_segment_at_ctrl_c(model, capsys, monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")  # as on Windows
    before = signal.getsignal(signal.SIGINT)
    assert listen.main(["--model", model, "--beam", "1", "--times"], source) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.split()[:3] == ["0.0", "-", "1.3"] and second.split()[:3] == ["1.7", "-", "3.1"]
    assert "listening; stop with Ctrl-C" in err
    assert signal.getsignal(signal.SIGINT) is before


def test_listen_refuses_settings_without_pauses(model):
    with pytest.raises(InputError, match="--vad none: finds no pauses"):
        listen.main(["--model", model, "--vad", "none"], source)


def test_a_missing_package_or_device_is_reported_with_a_remedy(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match=r"cannot use microphones.*'\.\[mic\]'"):
        listen.main(["--model", model])

    def refuse(**settings):
        raise ValueError("No input device matching 'desk'")

    broken = types.SimpleNamespace(check_input_settings=refuse, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", broken)
    with pytest.raises(InputError, match=r"microphone desk: not usable.*choose one with --input"):
        listen.main(["--model", model, "--input", "desk"])


@pytest.mark.parametrize("rates, expected", [({RATE, 48000}, RATE), ({48000}, 48000)])
def test_the_microphone_is_read_in_blocks_at_a_rate_it_supports(
    monkeypatch, capsys, rates, expected
):
    """With the package's interface played by a stand-in that records two blocks."""

    class InputStream:
        def __init__(self, rate, size, device, channels, dtype, callback):
            assert (rate, size, device, channels, dtype) == (
                (expected, expected // 10, 3, 1, "float32")
            )
            self.callback = callback

        def __enter__(self):
            for value, status in ((1.0, None), (2.0, "input overflow")):
                self.callback(np.full((1600, 1), value, np.float32), 1600, None, status)

        def __exit__(self, *error):
            return None

    def check(device, channels, samplerate=48000):
        if samplerate not in rates:
            raise RuntimeError("Invalid sample rate")

    device = types.SimpleNamespace(
        InputStream=InputStream,
        check_input_settings=check,
        query_devices=lambda device, kind: {"default_samplerate": 48000.0},
        PortAudioError=RuntimeError,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    stop = listen.threading.Event()
    rate, blocks = listen.microphone("3")(RATE, stop)
    first = next(iter(blocks))
    stop.set()
    rest = list(blocks)
    assert rate == expected
    assert [block.shape for block in (first, *rest)] == [(1600,), (1600,)]
    assert first[0] == 1.0 and rest[0][0] == 2.0
    assert "input overflow, audio may be lost" in capsys.readouterr().err
