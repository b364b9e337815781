"""Smaller model files: their precision, their size, and damaged ones."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from asr.audio.cmvn import CmvnStats
from asr.commands.average import main as average
from asr.commands.export import facts_from, main, search_from
from asr.config import AugmentConfig, DecodeConfig, EncoderConfig, FeatureConfig, TrainConfig
from asr.config.args import add_settings, from_args, make_parser
from asr.errors import InputError
from asr.loading import load, make_model
from asr.model.las import LAS
from asr.store.export import export_model
from asr.store.find import search_settings
from asr.store.model_file import Header, read_model, save_model
from asr.store.weights import SCALE, pack, unpack
from asr.text.tokenizer import CharTokenizer

DOUBT = {"credit": {"least": -1.0, "oov_rate": 0.1}, "vocabulary": ["AB", "C"]}


@pytest.fixture
def config(tiny_config):
    """Encoder matrices of 2 x 40 x 96, 2 x 128 x 96 and 2 x 32 x 96 are large enough for int8."""
    sizes = replace(tiny_config, encoder=EncoderConfig(units=32, pyramid=(2, 2), dropout=0.0))
    augment = AugmentConfig(noise_dir="noises/of/mine")
    return TrainConfig(features=FeatureConfig(mel_bins=20), model=sizes, augment=augment)


@pytest.fixture
def model(config, tmp_path):
    torch.manual_seed(0)
    tokenizer = CharTokenizer.from_texts(["AB C"])
    las = LAS(config.model, 20, len(tokenizer))
    cmvn = CmvnStats.from_features(torch.randn(50, 20).numpy())
    info = {
        "dev_wer": 0.25,
        "average_of": ["epoch_001.safetensors"],
        "card": {"wer": "25 %"},
        **DOUBT,
    }
    path = tmp_path / "final.safetensors"
    weights = las.state_dict()
    return save_model(path, weights, Header(config, tokenizer, cmvn, info))


def test_rows_of_int8_by_hand():
    weight = torch.zeros(2, 4096)
    weight[0, :3] = torch.tensor([1.27, -0.5, 0.014])  # steps of 0.01
    packed = pack({"x.weight": weight, "x.bias": torch.tensor([0.123456])}, "int8")
    assert packed["x.weight"][0, :3].tolist() == [127, -50, 1]
    assert packed["x.weight" + SCALE].shape == (2, 1)
    back = unpack(packed, "int8", "here")
    assert back["x.weight"][0, :3] == pytest.approx([1.27, -0.5, 0.01])
    assert not back["x.weight"][1].any()  # a row of zeros
    assert back["x.bias"] == np.float32(0.123456)


def test_matrices_that_multiply_from_the_right_have_a_scale_for_each_column():
    W = (
        torch.randn(2, 64, 96) * torch.logspace(-3, 3, 96)
    ).numpy()  # (directions, inputs, outputs)
    packed = pack({"layer.W": W, "layer.b": torch.randn(2, 4096)}, "int8")
    assert packed["layer.W" + SCALE].shape == (2, 1, 96)
    assert packed["layer.b"].dtype == np.float32
    error = np.abs(unpack(packed, "int8", "here")["layer.W"] - W).max(1)
    assert (error <= np.abs(W).max(1) / 127 / 2 * 1.001).all()  # half a step


@torch.no_grad()
@pytest.mark.parametrize(("storage", "tolerance"), [("float16", 5e-3), ("int8", 5e-2)])
def test_log_probabilities_stay_close(model, tmp_path, storage, tolerance):
    done = export_model(model, tmp_path / "small.safetensors", storage, {})
    (before, exact), (after, rounded) = read_model(model), read_model(done.path)
    assert all(w.dtype == np.float32 for w in rounded.values())
    assert after.tokenizer.symbols == before.tokenizer.symbols
    assert 0 < done.error < 0.01
    assert np.array_equal(after.cmvn.sum, before.cmvn.sum)
    features = torch.randn(1, 98, 20)
    tokens = torch.tensor([[6, 3, 4, 5]])  # <sos> A B C
    found = []
    for header, weights in ((before, exact), (after, rounded)):
        las = make_model(header, weights).las
        memory = las.encode(features, torch.tensor([98]))
        logits, _ = las.decoder(tokens, torch.tensor([4]), memory)
        found.append((logits.log_softmax(-1), las.ctc_log_probs(memory.states)))
    for one, other in zip(*found, strict=True):
        assert float((one - other).abs().max()) < tolerance


def test_the_size_by_hand(model, tmp_path):
    numbers = sum(w.size for w in read_model(model)[1].values())
    large = 2 * (40 + 128) * 96  # W of both encoder layers, (2, inputs, 96)
    large += 2 * 2 * 32 * 96  # U of both
    scales = 2 * 2 * 2 * 96  # layers, W and U, directions, outputs
    statistics = 8 * (1 + 20 + 20)
    sizes = {
        "float16": 2 * numbers,
        "int8": large + 4 * scales + 4 * (numbers - large),
        "float32": 4 * numbers,
    }
    for storage, size in sizes.items():
        done = export_model(model, tmp_path / f"{storage}.safetensors", storage, {})
        (header,) = struct.unpack("<Q", done.path.read_bytes()[:8])
        assert done.size == 8 + header + size + statistics


def test_a_model_carries_its_search_settings(model, tmp_path):
    tuned = tmp_path / "tuned.yaml"
    tuned.write_text("beam: 4\nctc_weight: 0.4\nlm_weight: 0.0\nlm: chars.safetensors\n")
    small = tmp_path / "small.safetensors"
    assert main([str(model), "-o", str(small), "--search", str(tuned)]) == 0
    assert search_settings(small) == {"beam": 4, "ctc_weight": 0.4}
    again = export_model(small, tmp_path / "again.safetensors", "int8", {})
    recognizer = load(again.path)
    assert (recognizer.config.beam, recognizer.config.ctc_weight) == (4, 0.4)
    assert recognizer.config.length_bonus == DecodeConfig().length_bonus


def test_given_settings_override_those_of_the_model(model, tmp_path):
    parser = make_parser("asr transcribe", "")
    add_settings(parser, DecodeConfig)
    arguments = ["--beam", "2"]
    config, _ = from_args(DecodeConfig, parser, arguments, lambda o: {"beam": 4, "nbest": 3})
    assert (config.beam, config.nbest) == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beam: many\n", "beam"),
        ("bream: 4\n", "bream"),
        ("lm: chars.safetensors\nlm_weight: 0.2\n", "cannot contain"),
    ],
)
def test_search_settings_that_a_model_cannot_carry(tmp_path, text, message):
    path = tmp_path / "tuned.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        search_from(path)


def test_a_second_export_changes_nothing(model, tmp_path):
    once = export_model(model, tmp_path / "once.safetensors", "int8", {})
    twice = export_model(once.path, tmp_path / "twice.safetensors", "int8", {})
    assert twice.error == 0


def test_facts_are_added_and_those_about_the_training_dropped(model, tmp_path):
    done = export_model(model, tmp_path / "small.safetensors", "int8", {"licence": "MIT"})
    header, _ = read_model(done.path)
    card = {"wer": "25 %", "licence": "MIT"}
    assert header.info == {"dev_wer": 0.25, "card": card, **DOUBT}
    assert header.config.augment.noise_dir == ""
    blob = done.path.read_bytes()
    assert b"noises/of" not in blob and b"exp/theirs" not in blob


def test_a_damaged_card(model, tmp_path):
    header, weights = read_model(model)
    save_model(model, weights, replace(header, info={"card": ["wer"]}))
    with pytest.raises(InputError, match="damaged"):
        export_model(model, tmp_path / "small.safetensors", "int8", {})


def test_the_command(model, tmp_path, capsys):
    target = tmp_path / "out" / "small.safetensors"
    args = [str(model), "-o", str(target), "--dtype", "int8", "--info", "wer=9 % (dev)"]
    assert main(args) == 0
    assert "int8, 0.0" in capsys.readouterr().out
    assert read_model(target)[0].info["card"]["wer"] == "9 % (dev)"
    assert main([str(model), "-o", "/dev/null"]) == 0
    with pytest.raises(InputError, match="is also read"):
        main([str(model), "-o", str(model)])
    with pytest.raises(InputError, match="expected key=value"):
        facts_from(["licence"])


def with_header(path, change):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["__metadata__"].update(storage="int4"), "stored as 'int4', this version"),
        (lambda h: h["__metadata__"].pop("symbols"), "header is damaged"),
        (lambda h: h["__metadata__"].update(info="[1, 2]"), "header is damaged"),
        (lambda h: h.pop("encoder.layers.0.U:scale"), "not a model file or cut short"),
        (
            lambda h: h.update(renamed=h.pop("encoder.layers.0.U:scale")),
            r"encoder\.layers\.0\.U is int8 with no scales",
        ),
        (
            lambda h: h["encoder.layers.0.U:scale"].update(shape=[2, 96, 1]),
            "with wrong scales, which no int8 file has; copy or",
        ),
    ],
)
def test_bad_files(model, tmp_path, change, message):
    done = export_model(model, tmp_path / "small.safetensors", "int8", {})
    with_header(done.path, change)
    with pytest.raises(InputError, match=message):
        read_model(done.path)


def test_a_file_cut_short(model, tmp_path):
    done = export_model(model, tmp_path / "small.safetensors", "int8", {})
    done.path.write_bytes(done.path.read_bytes()[:-1])
    with pytest.raises(InputError, match="cut short"):
        read_model(done.path)


@pytest.mark.parametrize(("storage", "value"), [("float16", 1e6), ("int8", float("nan"))])
def test_weights_that_cannot_be_stored(storage, value):
    with pytest.raises(InputError, match="not finite or too large"):
        pack({"x.weight": torch.full((64, 64), value)}, storage)


def test_no_file_of_a_training_is_replaced(model, tmp_path):
    (tmp_path / "exp" / "checkpoints").mkdir(parents=True)
    (tmp_path / "exp" / "train.jsonl").write_text("")
    for name in ("final.safetensors", "checkpoints/epoch_001.safetensors"):
        (tmp_path / "exp" / name).write_text("")
        with pytest.raises(InputError, match="a file of a training, which is not replaced"):
            export_model(model, tmp_path / "exp" / name, "float16", {})
    for _ in range(2):  # as local/ship.sh of AN4 does
        export_model(model, tmp_path / "exp" / "small.safetensors", "float16", {})
    for name in ("final.safetensors", "train.jsonl"):
        with pytest.raises(InputError, match="a file of a training, which is not replaced"):
            average([str(model), "-o", str(tmp_path / "exp" / name)])


def test_a_larger_copy_is_named(model, tmp_path, capsys):
    small, large = str(tmp_path / "small.safetensors"), str(tmp_path / "large.safetensors")
    for source, target, dtype in ((str(model), small, "int8"), (small, large, "float16")):
        assert main([source, "-o", target, "--dtype", dtype]) == 0
        assert ("larger than the original" in capsys.readouterr().err) == (target == large)
