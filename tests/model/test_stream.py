"""Characters that are written while the audio is coming."""

from dataclasses import replace
from pkgutil import resolve_name

import pytest
import torch

from asr.config.kinds import ATTENTIONS
from asr.config.layers import Recurrent
from asr.errors import InputError
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.model.stream import Stream
from asr.search.greedy import greedy

F, VOCAB, FRAMES = 5, 9, 83
KINDS = [kind for kind, path in ATTENTIONS.items() if resolve_name(path).has_hard_form]


def make(config, kind, directions=1, **more):
    """A model that stops now and then, and seldom ends the text."""
    layers = tuple(Recurrent("gru", r, 8, directions=directions) for r in (1, 2, 2))
    attention = replace(config.attention, kind=kind, window=3, chunk=2, **more)
    encoder = replace(config.encoder, layers=layers)
    las = LAS(replace(config, encoder=encoder, attention=attention), F, VOCAB).eval()
    for name, parameter in las.named_parameters():
        if not name.endswith((".g", ".r")):
            torch.nn.init.normal_(parameter, std=0.7)
    with torch.no_grad():
        las.decoder.readout.bias[las.eos] = -2.0
        if hasattr(las.decoder.attention, "r"):
            las.decoder.attention.g.fill_(3.0)
            las.decoder.attention.r.fill_(-0.5)
    return las


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [1, 10, 33, FRAMES])
def test_pieces_give_the_characters_of_the_whole(tiny_config, kind, piece):
    for seed in range(5):
        torch.manual_seed(seed)
        las, features = make(tiny_config, kind), torch.randn(FRAMES, F)
        model = TorchModel(las)
        (expected,) = greedy(model, model.encode([features.numpy()]))
        stream, found, early = Stream(las), [], 0
        for part in features.split(piece):
            found += stream.push(part)
            early = early or len(found)
        found += stream.close()
        assert tuple(found) == expected.tokens and stream.push(features) == []
        if piece < FRAMES and seed == 0:
            assert early


@pytest.mark.parametrize("kind", KINDS)
def test_characters_come_before_the_end_of_the_audio(tiny_config, kind):
    las, features = make(tiny_config, kind), torch.randn(FRAMES, F)
    stream = Stream(las)
    first = stream.push(features[:40])
    model = TorchModel(las)
    (whole,) = greedy(model, model.encode([features.numpy()]))
    assert first and whole.tokens[: len(first)] == tuple(first)


@torch.no_grad()
def test_a_long_pause_is_read_once(tiny_config, monkeypatch):
    las = make(tiny_config, "hard_monotonic")
    las.decoder.attention.r.fill_(-100.0)  # nothing is ever liked
    looked, passed = [], las.decoder.attention.steps_passed
    monkeypatch.setattr(
        las.decoder.attention, "steps_passed", lambda *a: looked.append(a[3].item()) or passed(*a)
    )
    stream = Stream(las)
    for part in torch.randn(400, F).split(4):
        assert stream.push(part) == []
    assert looked == sorted(looked) and len(looked) <= 2 * 100


def test_silence_of_no_frames_writes_nothing(tiny_config):
    assert Stream(make(tiny_config, "mocha")).close() == []


@pytest.mark.parametrize(
    ("kind", "directions", "more", "message"),
    [
        ("location", 1, {}, "hard form"),
        ("hard_monotonic", 2, {}, "directions 1"),
        ("mocha", 1, {"heads": 2}, "one head"),
    ],
)
def test_models_that_cannot_stream_are_refused(tiny_config, kind, directions, more, message):
    with pytest.raises(InputError, match=message):
        Stream(make(tiny_config, kind, directions, **more))
