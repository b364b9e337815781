"""A few steps of training with each choice of every setting and other values in its range.

The cases follow from the dataclasses: a new setting, or a new choice, is tried by itself.
"""

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from tones import TINY

from asr.commands.machine import machine
from asr.config import FeatureConfig, TrainConfig
from asr.config.layers import Convolutions, Recurrent, SelfAttention
from asr.config.read import flatten, from_dict, to_dict
from asr.corpus.datadir import DataDir
from asr.corpus.edit import subset
from asr.corpus.feature_statistics import gather
from asr.explain import pictures
from asr.store.model_file import read_model
from asr.train.loop import Training

OF_USE = {  # where neither 0 nor 1 makes sense
    "features.sample_rate": [8000],
    "features.mel_bins": [23],
    "features.frame_length_ms": [20.0],
    "features.frame_shift_ms": [12.5],
    "features.high_freq_hz": [-400.0, 7000.0],
    "augment.speeds": [(1.0,), (0.9, 1.1)],
    "augment.noise_snr_db": [(0.0, 0.0)],
    "model.encoder.pyramid": [(1,), (3, 2)],
    "model.attention.heads": [2],
    "model.encoder.layers": [
        (Recurrent("lstm", reduction=2, units=8), Recurrent(units=6, directions=1)),
        (Convolutions(reduction=2, channels=2), SelfAttention(units=8)),
    ],
}

NEEDS = {"loss.ctc_weight": {"loss.consistency": 0.0}}
# settings whose other values may change nothing in this short training
WITHOUT_EFFECT = {"augment.time_ratio", "loss.guide_epochs"}


def others(name: str, hint: Any, field: dataclasses.Field) -> list[Any]:
    """Return the values of a setting to train with."""
    check = field.metadata.get("check")
    if get_origin(hint) is Literal:
        return [value for value in get_args(hint) if value != field.default]
    if hint is bool:
        return [not field.default]
    if hint is str:
        names = check.expected.partition("one of ")[2].split(", ") if check else []
        return [name for name in names if name not in ("", field.default)]
    possible = OF_USE.get(name) or [hint(value) for value in (0, 1, 0.1)]
    return list(dict.fromkeys(value for value in possible if check.holds(value)))[:2]


def cases(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with each of its values."""
    for field in dataclasses.fields(cls):
        name, hint = prefix + field.name, get_type_hints(cls)[field.name]
        if dataclasses.is_dataclass(hint):
            yield from cases(hint, f"{name}.")
        else:
            yield from ((name, v) for v in others(name, hint, field))


@pytest.fixture(scope="module")
def few(tone_corpus, tmp_path_factory):
    """Five utterances to train on and one to evaluate."""
    root = tmp_path_factory.mktemp("few")
    for part, count in (("train", 5), ("dev", 1)):
        keep = [u.id for u in DataDir.load(tone_corpus / part).utterances[:count]]
        subset(tone_corpus / part, root / part, keep)
        gather(root / part, FeatureConfig(mel_bins=20))
    shutil.copy(tone_corpus / "tokens.txt", root)
    return root


@pytest.fixture
def train(few, tiny_training, tmp_path, monkeypatch):
    """Return a function that trains an epoch with changed settings and returns the losses."""
    monkeypatch.setattr(pictures, "write_png", lambda figure, path: None)  # takes most of the time

    def train(**changes: Any) -> list[float]:
        values = {**to_dict(tiny_training), "epochs": 1, **changes}
        config, data = from_dict(TrainConfig, values), few
        if config.features != tiny_training.features:
            data = tmp_path / "data"
            shutil.copytree(few, data)
            for part in ("train", "dev"):
                gather(data / part, config.features)
        folders = (str(data / part) for part in ("train", "dev", "tokens.txt"))
        with machine(1, config.precision):
            Training(config, *folders, tmp_path / "exp").run()
        assert read_model(tmp_path / "exp")[0].config == config
        lines = map(json.loads, (tmp_path / "exp" / "train.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if line["kind"] == "step"]

    return train


@pytest.fixture(scope="module")
def unchanged():
    """Losses of the training without a change, by what else the case needs."""
    return {}


@pytest.mark.parametrize(("name", "value"), list(cases(TrainConfig)), ids=str)
def test_a_training_with(name, value, train, tmp_path, unchanged):
    needs = NEEDS.get(name, {})
    losses = train(**{name: value}, **needs)
    assert len(losses) > 1 and all(map(math.isfinite, losses))
    same = value == flatten(to_dict(from_dict(TrainConfig, TINY)))[name]
    if name.startswith(("augment.", "loss.", "optim.")) and (same or name not in WITHOUT_EFFECT):
        if str(needs) not in unchanged:
            shutil.rmtree(tmp_path / "exp")
            unchanged[str(needs)] = train(**needs)
        assert (losses == unchanged[str(needs)]) == same
