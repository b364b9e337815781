"""Configurations of files and headers: they survive a round trip, and errors are reported."""

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import (
    AttentionConfig,
    AugmentConfig,
    DecodeConfig,
    FeatureConfig,
    LMConfig,
    TrainConfig,
)
from asr.config.read import from_dict, load_yaml, to_dict
from asr.errors import InputError

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "asr" / "models" / "an4" / "model.safetensors"
CLASSES = {"decode.yaml": DecodeConfig, "lm.yaml": LMConfig}
CASES = sorted(ROOT.glob("egs/*/conf/*.yaml"))


def header() -> dict[str, str]:
    blob = SHIPPED.read_bytes()
    (size,) = struct.unpack("<Q", blob[:8])
    return json.loads(blob[8 : 8 + size])["__metadata__"]


def test_round_trip():
    config = replace(TrainConfig(epochs=7), augment=AugmentConfig(speeds=(1.0,), vtln=0.1))
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert from_dict(TrainConfig, yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def assert_kept(found, values):
    """Every value is found under its key; settings that came later have others."""
    for key, value in values.items():
        if isinstance(value, dict):
            assert_kept(found[key], value)
        else:
            assert found[key] == value, key


def test_the_shipped_model_is_read_exactly():
    values = json.loads(header()["config"])
    assert_kept(to_dict(from_dict(TrainConfig, values)), values)


@pytest.mark.parametrize("path", CASES, ids=lambda path: "/".join(path.parts[-3::2]))
def test_configurations_of_the_recipes(path):
    values = load_yaml(path)
    found = from_dict(CLASSES.get(path.name, TrainConfig), values, str(path))
    assert_kept(to_dict(found), values)


def test_numbers_that_yaml_reads_as_text_and_empty_sections():
    values = yaml.safe_load("optim.learning_rate: 1e-3\noptim:\nmodel:\nmodel.encoder.units: 8\n")
    config = from_dict(TrainConfig, values)
    assert config.optim.learning_rate == 1e-3
    assert config.model.encoder.units == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "c.yaml: epoch: no such setting, expected one of seed, epochs"),
        ("model:\n  encoder:\n    unit: 3", "c.yaml: model.encoder.unit: no such setting"),
        ("model:\n  encoder:\n    units: 0", "c.yaml: model.encoder.units = 0, expected 1 to"),
        ("features.low_freq_hz: .nan", "c.yaml: features.low_freq_hz = nan, expected 0 or more"),
        ("epochs: many", "c.yaml: epochs = many, expected a whole number"),
        ("epochs: true", "c.yaml: epochs = True, expected a whole number"),
        ("epochs:", "c.yaml: epochs = None, expected a whole number"),
        ("device: 0", "c.yaml: device = 0, expected text"),
        ("model: 3", "c.yaml: model = 3, expected a table of settings"),
        ("augment:\n  speeds: 1.0", "c.yaml: augment.speeds = 1.0, expected a list of numbers"),
        ("augment:\n  noise_snr_db: [1]", "c.yaml: augment.noise_snr_db = .*a list of 2 numbers"),
        ("batch:\n  shortest_first: 1", "c.yaml: batch.shortest_first = 1, expected true or false"),
        ("features:\n  low_freq_hz: 9000", "c.yaml: features.low_freq_hz = 9000.0, expected 0 <="),
        ("- epochs", "c.yaml: found list, expected a table of settings"),
        ("epochs: [", "c.yaml:1: not a YAML file"),
        ("seed: 1\n? [a, b]\n: 1", "c.yaml:2: a list or table, expected a name before :"),
        ("optim.clip_norm: 1\noptim:\n  clip_norm: 2", "c.yaml: optim.clip_norm is there twice"),
        ("optim:\n  clip_norm: 2\noptim.clip_norm: 1", "c.yaml: optim.clip_norm is there twice"),
        ("seed: 1\nloss: {}\nseed: 2", r"c.yaml:3: seed is there twice; keep one"),
        ("loss: 3\nloss.ctc_weight: 0.2", "c.yaml: loss = 3, expected a value or a table of"),
        ("epochs.x: 1\nepochs: 3", "c.yaml: epochs = 3, expected a value or a table of settings"),
        ('seed: !!int ""', "c.yaml: not a YAML file"),
        ("seed: !!bool maybe", "c.yaml: not a YAML file"),
        ("seed: !!timestamp x", "c.yaml: not a YAML file"),
        ("epochs: " + "9" * 5000, "c.yaml: not a YAML file"),
        ("epochs: 0x" + "f" * 5000, "c.yaml: epochs = a number of thousands of digits, expected 1"),
        ("[" * 500, "c.yaml: not a YAML file"),
    ],
)
def test_errors_name_file_and_key(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        from_dict(TrainConfig, load_yaml(path), str(path))


def test_seconds_of_a_step_are_whole_samples():
    features = FeatureConfig(sample_rate=22050)  # a shift of 220 samples, not 220.5
    config = TrainConfig(features=features)
    assert features.shift_s == 220 / 22050
    assert config.step_s == 220 / 22050 * config.model.encoder.frames_per_step


sections = [TrainConfig, *(h for h in get_type_hints(TrainConfig).values() if hasattr(h, "check"))]
names = sorted({name for cls in sections for name in get_type_hints(cls)})
keys = st.sampled_from(names) | st.text(max_size=3) | st.sampled_from(["model.encoder.units", "."])


def test_a_list_of_many_aliases_is_not_expanded_in_the_message(tmp_path):
    lists = "".join(f", &l{n + 1} [{', '.join([f'*l{n}'] * 10)}]" for n in range(12))
    (tmp_path / "c.yaml").write_text(f"epochs: [&l0 [x]{lists}]")
    with pytest.raises(InputError, match=r"epochs = \[\['x'\].*, expected a whole number"):
        from_dict(TrainConfig, load_yaml(tmp_path / "c.yaml"), "c.yaml")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["nan", "1e400", "-1", "0.5", "global", "conv"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.dictionaries(keys | st.integers() | st.none(), values, max_size=4))
def test_any_table_is_a_configuration_or_refused(table):
    for cls in (TrainConfig, DecodeConfig, LMConfig):
        try:
            assert isinstance(from_dict(cls, table, "c.yaml"), cls)
        except InputError as error:
            assert "c.yaml: " in str(error)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(alphabet="eposch: \n-[]{}&*!|>'\"%@`#0123.\t\x00\x85é", max_size=40) | st.binary())
def test_any_file_is_a_table_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        assert isinstance(load_yaml(path), dict)
    except InputError as error:
        assert str(error).startswith(f"{path}:")


def test_a_recogniser_is_loaded_without_the_parser_of_command_lines():
    code = "import asr, sys; asr.load('an4', 'cpu'); print('jsonargparse' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_heads_have_equal_widths():
    with pytest.raises(InputError, match="heads = 3, expected a divisor of units = 128"):
        AttentionConfig(heads=3)
