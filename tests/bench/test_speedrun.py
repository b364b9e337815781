"""Minutes to an error rate, from the logs of trainings."""

import json

import pytest

from asr.commands.bench import main
from asr.errors import InputError

STEP = {"kind": "step", "audio_s": 300.0, "seconds": 40.0, "wait_s": 5.0}


def training(folder, errors):
    """Write the log of a training of a minute and one step for each epoch."""
    folder.mkdir()
    lines = []
    for epoch, wer in enumerate(errors, 1):
        lines.append({**STEP, "epoch": epoch})
        lines.append({"kind": "epoch", "epoch": epoch, "elapsed_s": 60.0 * epoch, "dev_wer": wer})
    lines.append({**STEP, "epoch": len(errors) + 1})  # of an epoch that is not finished
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_the_first_epoch_with_the_error_rate_counts(tmp_path, capsys):
    found = [
        training(tmp_path / "fast", [1.2, 0.09, 0.1]),
        training(tmp_path / "slow", [0.5, 0.2]),
    ]
    picture = tmp_path / "curve.png"
    assert main(["speedrun", *found, "--target", "9", "-o", str(picture), "--json"]) == 0
    fast, slow = json.loads(capsys.readouterr().out)
    assert (fast["minutes_to_target"], fast["epochs_to_target"], fast["best_wer"]) == (2.0, 2, 0.09)
    assert slow["minutes_to_target"] is None and slow["minutes"] == [1.0, 2.0]
    assert fast["times_real_time"] == pytest.approx(5.0)
    shares = [fast[f"{part}_share"] for part in ("steps", "wait", "rest")]
    assert shares == pytest.approx([40 / 60, 5 / 60, 15 / 60])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_error_rate_that_is_not_finite_and_a_line_that_is_being_written(tmp_path, capsys):
    folder = training(tmp_path / "some", [None, 0.5])
    with open(tmp_path / "some" / "train.jsonl", "a") as file:
        file.write('{"kind": "epo')
    assert main(["speedrun", folder]) == 0
    assert "50.0 %" in capsys.readouterr().out
    assert main(["speedrun", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["wer"] == [None, 0.5]


def test_a_table_names_trainings_that_never_had_it(tmp_path, capsys):
    assert main(["speedrun", training(tmp_path / "slow", [0.5, 0.2]), "--target", "19.5"]) == 0
    title, line = capsys.readouterr().out.splitlines()
    assert "to 19.5 %" in title and "never" in line and "20.0 %" in line


def test_a_picture_replaces_no_log(tmp_path):
    folder = training(tmp_path / "fast", [0.09])
    for name in ("curve.jpg", "fast"):
        with pytest.raises(InputError, match=name):
            main(["speedrun", folder, "-o", str(tmp_path / name)])
    assert [path.name for path in tmp_path.iterdir()] == ["fast"]


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", None])
def test_a_folder_without_a_finished_epoch_is_an_error(tmp_path, text):
    if text is not None:
        (tmp_path / "train.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"train\.jsonl"):
        main(["speedrun", str(tmp_path)])
