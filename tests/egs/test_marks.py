"""The measurement of marks: which model is half-trained, and what is no seed."""

import json

import pytest

from asr.errors import EXIT_USAGE, InputError


@pytest.fixture
def marks(load_script):
    return load_script("librispeech/local/marks.py")


def test_half_trained_is_the_first_epoch_with_half_of_the_words(marks, tmp_path):
    assert marks.first_half_right(tmp_path) is None
    entries = [{"kind": "step"}] + [
        {"kind": "epoch", "dev_wer": wer, "checkpoint": f"epoch_{i}.safetensors"}
        for i, wer in enumerate((1.2, 0.51, 0.5, 0.2))
    ]
    log = tmp_path / "train.jsonl"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries[:3]))
    assert marks.first_half_right(tmp_path) is None
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert marks.first_half_right(tmp_path) == tmp_path / "checkpoints" / "epoch_2.safetensors"


@pytest.mark.parametrize("arguments", [[], ["0"], ["10"], ["x"], ["1", "-2"]])
def test_what_is_no_seed(marks, arguments, capsys):
    assert marks.main(arguments) == EXIT_USAGE
    assert "usage: marks.py SEED..." in capsys.readouterr().err


def test_the_bundled_corpus_has_to_be_prepared(marks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="data/train_mini: no such folder"):
        marks.main(["4"])
