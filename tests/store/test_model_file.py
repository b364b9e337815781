"""Models are read as they were written, and bad files are refused."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from asr.audio.cmvn import CmvnStats
from asr.config import BatchConfig, FeatureConfig, TrainConfig
from asr.config.read import to_dict
from asr.errors import InputError
from asr.loading import make_model
from asr.model.las import LAS
from asr.store.average import average_models, ensemble_models
from asr.store.model_file import Header, read_model, save_model
from asr.store.weights import networks_of
from asr.text.tokenizer import CharTokenizer

FEATURES = FeatureConfig(mel_bins=20)


@pytest.fixture
def saved(tiny_config, tmp_path):
    """Return a function that writes a model with random weights."""

    def save(name="final.safetensors", seed=0, statistics=True, **changes):
        torch.manual_seed(seed)
        config = TrainConfig(**{"features": FEATURES, "model": tiny_config, **changes})
        tokenizer = CharTokenizer.from_texts(["AB C"])
        model = LAS(tiny_config, FEATURES.dim, len(tokenizer))
        cmvn = CmvnStats.from_features(torch.randn(50, 20).numpy())
        path = tmp_path / name
        weights = model.state_dict()
        save_model(
            path, weights, Header(config, tokenizer, cmvn if statistics else None, {"epoch": 7})
        )
        return path, model, cmvn

    return save


def test_models_are_read_as_they_were_saved(saved):
    path, model, cmvn = saved()
    header, weights = read_model(path.parent)  # a folder as a training leaves it
    assert header.tokenizer.decode(header.tokenizer.encode("CAB")) == "CAB"
    assert header.info == {"epoch": 7}
    assert np.array_equal(header.cmvn.sum, cmvn.sum)
    loaded = make_model(header, weights)
    assert not loaded.las.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.las.state_dict()[name])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "0 bytes"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: b"RIFF and so on", "not a model file"),
        (lambda data: with_header(data, version="99"), "model format 99, this version reads 1"),
        (lambda data: with_header(data, format="other"), "of format other, expected asr-las"),
    ],
)
def test_bad_files(saved, damage, message):
    path, *_ = saved()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        read_model(path)


def test_global_normalisation_needs_its_statistics(saved):
    path, *_ = saved(statistics=False)
    with pytest.raises(InputError, match="no statistics of the features"):
        read_model(path)


def with_header(data, **changes):
    """A safetensors file is the header's length, the header as JSON, and the numbers."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] |= changes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def test_models_of_versions_with_other_settings(saved):
    """Settings of another version are left out, unless the network had what they turn on."""
    path, *_ = saved()
    data, config = path.read_bytes(), to_dict(read_model(path)[0].config)
    losses, encoder = {**config["loss"], "gone": 3}, {**config["model"]["encoder"], "gone": 3}
    path.write_bytes(with_header(data, config=json.dumps({**config, "loss": losses, "old": {}})))
    assert to_dict(read_model(path)[0].config) == config
    off = {**config["model"], "former": False, "encoder": {**config["model"]["encoder"], "old": 0}}
    path.write_bytes(with_header(data, config=json.dumps({**config, "model": off})))
    assert to_dict(read_model(path)[0].config) == config
    model = {**config["model"], "encoder": encoder}
    path.write_bytes(with_header(data, config=json.dumps({**config, "model": model})))
    with pytest.raises(InputError, match=r"model\.encoder\.gone: no such setting"):
        read_model(path)


def test_missing_models(tmp_path):
    with pytest.raises(InputError, match="no such model"):
        read_model(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no final\.safetensors"):
        read_model(tmp_path)


@pytest.fixture
def seeds(saved):
    """Two models of one recipe."""
    paths = [saved("one.safetensors", seed=1)[0], saved("two.safetensors", seed=2)[0]]
    _, weights = read_model(paths[1])
    save_model(paths[1], weights, read_model(paths[0])[0])  # with the same statistics
    return paths


def test_an_ensemble_has_all_networks(seeds, tmp_path):
    ensemble_models(seeds, tmp_path / "both.safetensors")
    header, weights = read_model(tmp_path / "both.safetensors")
    assert header.info["ensemble_of"] == [path.name for path in seeds]
    for path, own, model in zip(
        seeds, networks_of(weights), make_model(header, weights).models, strict=True
    ):
        assert not model.las.training
        expected = read_model(path)[1]
        assert own.keys() == expected.keys()
        for name, value in model.las.state_dict().items():
            assert np.array_equal(value, expected[name])


def test_networks_are_in_the_order_of_their_numbers():
    long = "1" * 5000
    weights = {f"{n}.W": np.float32(len(n)) for n in (long, "10", "2")} | {"W": np.float32(0)}
    assert [own["W"] for own in networks_of(weights)] == [0, 1, 2, 5000]


@pytest.mark.parametrize("make", [average_models, ensemble_models])
def test_facts_of_models_are_kept_if_they_agree(seeds, tmp_path, make):
    def join(*infos):
        for path, info in zip(seeds, infos, strict=True):
            header, weights = read_model(path)
            save_model(path, weights, replace(header, info=info))
        make(seeds, tmp_path / "both.safetensors")
        return read_model(tmp_path / "both.safetensors")[0].info

    one = {"data": "1", "search": {"beam": 2}}
    assert join(one, one).items() >= one.items()
    assert not join(one, {"search": {"beam": 3}}).keys() & one.keys()
    with pytest.raises(InputError, match="its training data differ"):
        join(one, {**one, "data": "2"})


def test_what_does_not_fit_makes_no_ensemble(saved, seeds, tmp_path):
    out = tmp_path / "both.safetensors"
    features = replace(FEATURES, cmvn="speaker")
    other = saved("other.safetensors", features=features)[0]
    message = r"other.*features.cmvn is speaker, not global, its .*; train all"
    with pytest.raises(InputError, match=message):
        ensemble_models([seeds[0], other], out)
    with pytest.raises(InputError, match="statistics of the features"):
        ensemble_models([seeds[0], saved("other.safetensors", seed=3)[0]], out)
    assert not out.exists()


def test_one_training_makes_no_ensemble(seeds, tmp_path):
    with pytest.raises(InputError, match="one model; name two or more trainings"):
        ensemble_models(seeds[:1], tmp_path / "both.safetensors")


@pytest.mark.parametrize("make", [average_models, ensemble_models])
@pytest.mark.parametrize("chosen", [[0, 0], [0, 1, 0]])
def test_a_model_counts_once(seeds, tmp_path, make, chosen):
    with pytest.raises(InputError, match="named twice; name it once"):
        make([seeds[i] for i in chosen], tmp_path / "both.safetensors")


def test_an_ensemble_is_not_a_part_of_another_model(seeds, tmp_path):
    out = tmp_path / "both.safetensors"
    ensemble_models(seeds, out)
    for make in (average_models, ensemble_models):
        with pytest.raises(InputError, match="an ensemble of 2 networks; name one of its models"):
            make([out], tmp_path / "other.safetensors")
        with pytest.raises(InputError, match="an ensemble of 2 networks; name one of its models"):
            make([seeds[0], out], tmp_path / "other.safetensors")


def test_an_average_is_the_mean_of_the_weights(saved, tmp_path):
    one, two = saved("one.safetensors", seed=1), saved("two.safetensors", seed=2)
    save_model(two[0], read_model(two[0])[1], read_model(one[0])[0])  # with the same statistics
    average_models([one[0], two[0]], tmp_path / "mean.safetensors")
    _, mean = read_model(tmp_path / "mean.safetensors")
    for name, value in one[1].state_dict().items():
        torch.testing.assert_close(
            torch.from_numpy(mean[name]), (value + two[1].state_dict()[name]) / 2
        )


def test_other_settings_may_change_during_a_training(saved, tmp_path):
    batch = BatchConfig(workers=3)
    one, two = saved("one.safetensors"), saved("two.safetensors", epochs=9, threads=2, batch=batch)
    average_models([one[0], two[0]], tmp_path / "mean.safetensors")


def test_models_without_the_same_weights_are_not_averaged(saved, tmp_path):
    one, two = saved("one.safetensors"), saved("two.safetensors")
    header, weights = read_model(two[0])
    save_model(two[0], {k: w for k, w in weights.items() if k != "ctc.bias"}, header)
    with pytest.raises(InputError, match=r"two.safetensors: its weights have other names or sizes"):
        average_models([one[0], two[0]], tmp_path / "mean.safetensors")


def test_models_of_two_trainings_are_not_averaged(saved, tmp_path):
    features = replace(FEATURES, cmvn="speaker")
    one, two = saved("one.safetensors"), saved("two.safetensors", epochs=9, features=features)
    message = "does not fit .*: features.cmvn is speaker, not global; average only"
    with pytest.raises(InputError, match=message):
        average_models([one[0], two[0]], tmp_path / "mean.safetensors")
    other = saved("three.safetensors", seed=3)[0]
    with pytest.raises(InputError, match="its statistics of the features differ; average only"):
        average_models([one[0], other], tmp_path / "mean.safetensors")
