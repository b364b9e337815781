"""Settings refuse values of wrong types and out of range, in Python and in files."""

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import get_args, get_origin, get_type_hints

import numpy as np
import pytest

from asr.config import (
    DecodeConfig,
    EncoderConfig,
    FeatureConfig,
    LMConfig,
    LossConfig,
    SegmentationConfig,
    TrainConfig,
    settings,
)
from asr.config.field import Settings, at_least, between, more_than, odd, setting
from asr.errors import InputError

WHOLE = [TrainConfig(), LMConfig(), DecodeConfig(), SegmentationConfig()]


@dataclass(frozen=True)
class Example(Settings):
    count: int = setting(3, at_least(1))
    share: float = setting(0.5, between(0, 1))
    rate: float = setting(1.0, more_than(0))
    width: int = setting(5, odd(1, 99))


def parts(config):
    """A configuration and those in it."""
    yield config
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            yield from parts(value)


def numbers() -> list:
    """Every setting that is a number or a list of numbers."""
    return [
        pytest.param(config, name, id=f"{type(config).__name__}.{name}")
        for whole in WHOLE
        for config in parts(whole)
        for name, hint in get_type_hints(type(config)).items()
        if hint in (int, float) or (get_origin(hint) is tuple and name != "layers")
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "many", None, True, 10**400])
@pytest.mark.parametrize(("config", "name"), numbers())
def test_values_that_are_not_finite_numbers_are_refused(config, name, value):
    default = getattr(config, name)
    if isinstance(default, tuple):
        value = (value,) * max(1, len(default))
    with pytest.raises(InputError, match=rf"^{name} = .*, expected "):
        replace(config, **{name: value})


@pytest.mark.parametrize(("config", "name"), numbers())
def test_negative_numbers_are_refused_except_where_they_have_a_meaning(config, name):
    default = getattr(config, name)
    value = (-1000,) * max(1, len(default)) if isinstance(default, tuple) else -1000
    if name in ("high_freq_hz", "length_bonus"):  # counted from the end; a penalty
        replace(config, **{name: -0.5})
    else:
        with pytest.raises(InputError, match=rf"^{name} = .*, expected "):
            replace(config, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, "count = 0, expected 1 or more"),
        ("count", 1.5, "count = 1.5, expected a whole number"),
        ("share", 1.01, "share = 1.01, expected 0 to 1"),
        ("rate", 0, "rate = 0, expected more than 0"),
        ("width", 4, "width = 4, expected an odd number from 1 to 99"),
        ("width", -3, "width = -3, expected an odd number from 1 to 99"),
    ],
)
def test_messages(name, value, message):
    with pytest.raises(InputError) as error:
        Example(**{name: value})
    assert str(error.value) == message


def test_ends_of_ranges_and_numpy_numbers_are_accepted():
    Example(count=1, share=0, rate=1, width=1)
    Example(share=1.0, count=np.int64(2), rate=np.float32(0.5))


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (type(part), name)
        for whole in WHOLE
        for part in parts(whole)
        for name, hint in get_type_hints(type(part)).items()
        if get_args(hint) and get_origin(hint) is not tuple
    ],
)
def test_unknown_choices_are_refused(cls, name):
    with pytest.raises(InputError, match=f"^{name} = other, expected one of "):
        cls(**{name: "other"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low_freq_hz": 5000.0, "sample_rate": 8000}, "low_freq_hz = 5000.0, expected 0 <= low"),
        ({"high_freq_hz": -8000.0}, "low_freq_hz = 20.0, expected 0 <= low < high <= 8000"),
        ({"frame_length_ms": 1.0, "sample_rate": 1000}, "frame_length_ms = 1.0, expected 2 samp"),
        ({"frame_shift_ms": 0.5, "sample_rate": 1000}, "frame_shift_ms = 0.5, expected 1 sample"),
        ({"kind": "mfcc", "ceps": 90}, "ceps = 90, expected at most mel_bins = 80"),
    ],
)
def test_settings_that_contradict_each_other(changes, message):
    with pytest.raises(InputError, match=f"^{message}"):
        FeatureConfig(**changes)


def test_a_section_is_a_configuration():
    with pytest.raises(InputError, match=r"loss = 0\.3, expected a table of settings"):
        TrainConfig(loss=0.3)
    assert TrainConfig(loss=LossConfig(ctc_weight=0.0)).loss.ctc_weight == 0


def test_no_two_settings_of_one_command_line_have_the_same_name():
    """``asr transcribe`` has the options of both."""
    assert not get_type_hints(DecodeConfig).keys() & get_type_hints(SegmentationConfig).keys()


def test_dropout_must_leave_something():
    with pytest.raises(InputError, match=r"dropout = 0\.9996"):  # all of a thousandth
        EncoderConfig(dropout=0.9996)
    assert settings.DROPOUT.holds(0.999)
