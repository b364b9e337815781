"""Model files from others: which settings they can choose, and that none causes a crash."""

import copy
import functools
import json
import resource
import struct
import tempfile
from pathlib import Path

import pytest
import torch
from fuzz import budget
from hypothesis import given
from hypothesis import strategies as st

from asr.commands.transcribe import main
from asr.config import (
    AttentionConfig,
    DecoderConfig,
    EncoderConfig,
    FeatureConfig,
    LMConfig,
    ModelConfig,
    TrainConfig,
)
from asr.errors import InputError
from asr.loading import load, load_lm
from asr.model.char_lm import CharLM
from asr.model.las import LAS
from asr.store.find import describe, search_settings
from asr.store.model_file import Header, read_model, save_lm, save_model
from asr.text.tokenizer import CharTokenizer

SMALL = ModelConfig(
    encoder=EncoderConfig(units=8, pyramid=(2, 2)),
    attention=AttentionConfig(units=6, filters=2, filter_width=3),
    decoder=DecoderConfig(units=8, embedding=5),
)
TOKENS = CharTokenizer.from_texts(["AB C"])


def write(path, weights=None, **info):
    torch.manual_seed(0)
    config = TrainConfig(features=FeatureConfig(mel_bins=20, cmvn="none"), model=SMALL)
    weights = weights or LAS(SMALL, 20, len(TOKENS)).state_dict()
    return save_model(path, weights, Header(config, TOKENS, None, info))


@pytest.mark.parametrize(
    ("search", "named"),
    [
        ({"output": "/tmp/elsewhere"}, "output"),
        ({"inputs": ["/etc/passwd"]}, "inputs"),
        ({"list": ["/etc/passwd"]}, "list"),
        ({"data": ["data"]}, "data"),
        ({"model": "an4"}, "model"),
        ({"config": "x.yaml"}, "config"),
        ({"skip_existing": True}, "skip_existing"),
        ({"threads": 1000}, "threads"),
        ({"vad": "none"}, "vad"),
        ({"hotwords": "/etc/passwd"}, "hotwords"),
        ({"lm": "/etc/passwd"}, "lm"),
        ({"word_lm": "/etc/passwd"}, "word_lm"),
        ({"beam": 0}, "beam"),
        ({"beam": "4; rm"}, "beam"),
        ({"ctc_weight": float("nan")}, "ctc_weight"),
        ({"setting_of_tomorrow": 3}, "setting_of_tomorrow"),
        ([4], "a table of settings"),
    ],
)
def test_a_model_brings_nothing_but_search_settings(tmp_path, search, named):
    path = write(tmp_path / "a.safetensors", search=search)
    (tmp_path / "a.wav").write_bytes(b"")
    for use in (search_settings, load):
        with pytest.raises(InputError, match=named):
            use(path)
    with pytest.raises(InputError, match=named):
        main([str(tmp_path / "a.wav"), "--model", str(path)])


def test_settings_without_a_file_do_no_harm(tmp_path):
    path = write(tmp_path / "a.safetensors", search={"beam": 4, "hotwords": "", "lm": ""})
    assert search_settings(path) == {"beam": 4}
    assert load(path).config.beam == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    weights = LAS(SMALL, 20, len(TOKENS)).state_dict()
    weights["ctc.bias"][0] = value
    with pytest.raises(InputError, match=r"ctc\.bias is not finite"):
        read_model(write(tmp_path / "a.safetensors", weights))
    lm = CharLM(LMConfig(units=8, embedding=4), len(TOKENS))
    with torch.no_grad():
        lm.readout.bias[0] = value
    save_lm(
        tmp_path / "lm.safetensors", lm.state_dict(), LMConfig(units=8, embedding=4), TOKENS, {}
    )
    with pytest.raises(InputError, match="not finite"):
        load_lm(tmp_path / "lm.safetensors", TOKENS)


@functools.cache
def parts():
    """The header of a small model as nested tables, and the bytes of its tensors."""
    with tempfile.TemporaryDirectory() as folder:
        data = write(Path(folder) / "a", search={"beam": 4}, card={"hears": "A"}).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    for key in ("config", "symbols", "info"):
        header["__metadata__"][key] = json.loads(header["__metadata__"][key])
    return header, data[8 + size :]


def packed(header, tensors):
    metadata = header.get("__metadata__")
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        if not isinstance(value, str):
            metadata[key] = json.dumps(value)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def places(value, path=()):
    """Paths to everything in nested tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inside in items:
        yield (*path, key)
        if isinstance(inside, dict | list):
            yield from places(inside, (*path, key))


ODD = st.one_of(
    st.sampled_from([None, True, "", "x", [], {}, -1, 0, 1, 2**31, 10**400, 1e308, float("nan")]),
    st.sampled_from([64, 1000, 65536, [1] * 5000, [1000] * 20, "\ud800", "\x1b[31m", "9" * 5000]),
    st.recursive(st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)),
)


def read_all(data):
    """Whatever is made of a file: what it is, or InputError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(data)
        for use in (describe, search_settings, load):
            try:
                use(path)
            except InputError:
                continue


@budget(100)
@given(st.data())
def test_changed_headers(data):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    header, tensors = parts()
    header = copy.deepcopy(header)
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(list(places(header))))
        inside = functools.reduce(lambda value, key: value[key], path, header)
        if data.draw(st.booleans()):
            inside[last] = copy.deepcopy(data.draw(ODD))
        else:
            del inside[last]
    read_all(packed(header, tensors))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**20  # 1 GiB on Linux


@budget(100)
@given(st.data())
def test_lost_or_changed_bytes(data):
    whole = bytearray(packed(*copy.deepcopy(parts())))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read_all(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@pytest.mark.parametrize("key", ["config", "symbols", "info"])
def test_deeply_nested_json(key):
    header, tensors = copy.deepcopy(parts())
    header["__metadata__"][key] = "[" * 100_000
    read_all(packed(header, tensors))
