"""The measurement of flags: which model is half-trained, and what is no seed."""

import json
from types import SimpleNamespace

import pytest

from asr.corpus.tables import read_table
from asr.errors import EXIT_USAGE, InputError


@pytest.fixture
def script(load_script):
    return load_script("utils/flag_rates.py")


def test_half_trained_is_the_first_epoch_with_half_of_the_words(script, tmp_path):
    assert script.first_half_right(tmp_path) is None
    entries = [{"kind": "step"}] + [
        {"kind": "epoch", "dev_wer": wer, "checkpoint": f"epoch_{i}.safetensors"}
        for i, wer in enumerate((1.2, 0.51, 0.5, 0.2))
    ]
    log = tmp_path / "train.jsonl"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries[:3]))
    assert script.first_half_right(tmp_path) is None
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert script.first_half_right(tmp_path) == tmp_path / "checkpoints" / "epoch_2.safetensors"


SETS = ["--train", "data/train", "--dev", "data/dev", "--"]


@pytest.mark.parametrize("seeds", [[], ["x"], ["1", "2.5"], ["-1"]])
def test_what_is_no_seed(script, seeds, capsys):
    with pytest.raises(SystemExit) as end:
        script.main([*SETS, *seeds])
    assert end.value.code == EXIT_USAGE
    assert "SEED" in capsys.readouterr().err


def test_it_runs_in_a_recipe_that_is_prepared(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"conf/decode\.yaml"):
        script.main([*SETS, "4"])
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "decode.yaml").touch()
    (tmp_path / "conf" / "train.yaml").touch()
    with pytest.raises(InputError, match="data/train: no such folder"):
        script.main([*SETS, "4"])
    assert not (tmp_path / "exp" / "flag_rates" / "seed4" / "made_of.json").exists()


def test_a_model_of_something_else_is_not_taken_up(script, tmp_path):
    made_of = {"train": "data/train", "dev": ["data/dev"]}
    script.check(tmp_path, made_of)  # nothing is there
    (tmp_path / "las").mkdir()
    with pytest.raises(InputError, match="made with another train, dev; remove the folder"):
        script.check(tmp_path, made_of)  # it does not tell
    (tmp_path / "made_of.json").write_text(json.dumps(made_of))
    script.check(tmp_path, made_of)
    with pytest.raises(InputError, match="made with another dev; remove the folder"):
        script.check(tmp_path, {**made_of, "dev": ["data/test"]})


def write_set(folder, speakers):
    folder.mkdir()
    (folder / "a.wav").touch()
    names = [f"s{number:02d}" for number in range(1, speakers + 1)]
    tables = {"text": "ONE", "wav.scp": f"{folder}/a.wav", "utt2spk": "", "spk2utt": ""}
    for table, value in tables.items():
        lines = (f"{name} {value or name}\n" for name in names)
        (folder / table).write_text("".join(lines))


def test_every_ninth_speaker_is_kept_apart(script, tmp_path, monkeypatch):
    write_set(tmp_path / "all", 11)
    write_set(tmp_path / "others", 1)
    calls = []

    def run(command):
        calls.append(command)
        return SimpleNamespace(returncode=len(calls) - 1)

    monkeypatch.setattr(script.subprocess, "run", run)
    folder = tmp_path / "seed1"
    script.part(str(tmp_path / "all"), [str(tmp_path / "others")], folder, 1, "conf/train.yaml")
    apart, train = (read_table(folder / name / "utt2spk").values() for name in ("apart", "train"))
    assert sorted(apart) == ["s01", "s10"]
    assert sorted(train) == [f"s{number:02d}" for number in (*range(2, 10), 11)]
    assert list(read_table(folder / "dev" / "text")) == ["s01"]
    (command,) = calls
    assert command[3:6] == ["features", folder / "train", folder / "dev"]
    with pytest.raises(InputError, match="features cannot be computed"):  # the second call fails
        script.part(str(tmp_path / "all"), [str(tmp_path / "others")], folder, 1, "conf/train.yaml")
