"""``asr decode`` and ``asr transcribe`` recognise in the same way: to the flag, time and score."""

import json
from pathlib import Path

import pytest

from asr.commands import decode, transcribe
from asr.config import FeatureConfig, LossConfig, TrainConfig
from asr.model.las import LAS
from asr.store.model_file import Header, save_model
from asr.text.tokenizer import CharTokenizer

MINI = Path(__file__).parents[2] / "data" / "mini" / "dev-mini"
TEXT = "THE QUICK BROWN FOX JUMPS OVER A LAZY DOG"


@pytest.fixture
def dev_mini(tmp_path):
    """Three utterances of each of the five speakers of data/mini's dev set."""
    folder = tmp_path / "dev_mini"
    folder.mkdir()
    spoken = {s.name: sorted(s.rglob("*.opus"))[:3] for s in sorted(MINI.iterdir())}
    tables = {
        "wav.scp": [f"{p.stem} {p}" for paths in spoken.values() for p in paths],
        "utt2spk": [f"{p.stem} {name}" for name, paths in spoken.items() for p in paths],
        "spk2utt": [f"{name} {' '.join(p.stem for p in paths)}" for name, paths in spoken.items()],
    }
    for name, lines in tables.items():
        (folder / name).write_text("".join(line + "\n" for line in lines))
    return folder


@pytest.fixture
def babbling(tiny_config, tmp_path):
    """A model that writes useless texts, with all flags; it normalises by speaker."""
    features, loss = FeatureConfig(mel_bins=20, cmvn="speaker"), LossConfig(ctc_weight=0.3)
    config = TrainConfig(features=features, model=tiny_config, loss=loss)
    tokenizer = CharTokenizer.from_texts([TEXT])
    weights = LAS(tiny_config, 20, len(tokenizer)).state_dict()
    path, info = tmp_path / "final.safetensors", {"search": {"beam": 3, "max_ratio": 0.3}}
    save_model(path, weights, Header(config, tokenizer, None, info))
    return str(path)


@pytest.mark.parametrize("model", ["an4", "babbling"])
def test_both_commands_give_the_same(model, babbling, dev_mini, tmp_path):
    model = babbling if model == "babbling" else model
    common = ["--model", model, "--data", str(dev_mini), "--threads", "1", "--device", "cpu"]
    assert decode.main([*common, "--out", str(tmp_path / "out")]) == 0
    options = ["--vad", "none", "-f", "json", "-o", str(tmp_path / "json")]
    assert transcribe.main([*common, *options]) == 0
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    flags = set()
    for decoded in map(json.loads, lines):
        found = json.loads((tmp_path / "json" / f"{decoded['id']}.json").read_text())
        assert found["segments"][0]["words"] == decoded["segments"][0]["words"]
        assert {**found, "file": ""} == {**decoded, "file": ""}
        flags |= set(found["flags"])
    assert len(lines) == 15 and flags
