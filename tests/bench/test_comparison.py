"""`asr bench attention` trains, measures and compares; finished work is not done again."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from tones import TINY

from asr.bench import accuracy, speed
from asr.bench.accuracy import Spoken, Trained, join, read_dev, times_of_ctm, word_time_errors
from asr.bench.comparison import ENCODERS, make_rows
from asr.bench.comparison_report import ERRORS, lines, table, write
from asr.commands.bench import main
from asr.config import EncoderConfig, ModelConfig, TrainConfig
from asr.config.read import from_dict
from asr.errors import InputError
from asr.train import loop


@pytest.fixture(scope="module")
def command(tone_corpus, tmp_path_factory):
    """A command line without --out and --kinds."""
    settings = tmp_path_factory.mktemp("conf") / "train.yaml"
    settings.write_text(yaml.safe_dump({**TINY, "epochs": 2}))
    data = [f"--{name}={tone_corpus / name}" for name in ("train", "dev")]
    tokens = f"--tokens={tone_corpus / 'tokens.txt'}"
    return ["attention", f"--config={settings}", *data, tokens, "--measure=accuracy"]


@pytest.fixture(scope="module")
def compared(command, tmp_path_factory):
    """The folder of two finished trainings."""
    out = tmp_path_factory.mktemp("kinds")
    assert main([*command, f"--out={out}", "--kinds=dot:units=4,hard_monotonic"]) == 0
    return out


def test_two_kinds_are_trained_and_measured(compared):
    data = json.loads((compared / "comparison.json").read_text())
    assert [row["label"] for row in data["rows"]] == ["dot_4_units", "hard_monotonic"]
    soft, hard = (row["accuracy"] for row in data["rows"])
    assert soft["forms"].keys() == {"soft"} and hard["forms"].keys() == {"hard", "soft"}
    assert hard["forms"]["hard"]["attention"].keys() == {"1", "2"}  # the dev set has two
    assert hard["places"]["hard"].keys() >= {"error_ms"} and hard["reference"] == "CTC"
    assert soft["epochs"] == 2 and soft["parameters"] > 1000
    tables = (compared / "comparison.md").read_text()
    assert tables.count("\n| hard_monotonic | ") == 2
    assert (compared / "comparison.png").read_bytes().startswith(b"\x89PNG")
    config = yaml.safe_load((compared / "dot_4_units-1" / "config.yaml").read_text())
    assert config["model"]["attention"]["kind"] == "dot"
    assert config["model"]["attention"]["units"] == 4


def test_finished_rows_are_not_opened_again(command, compared, monkeypatch, capsys):
    monkeypatch.setattr(loop, "Training", None)
    monkeypatch.setattr(accuracy, "measure", None)
    again = [*command, f"--out={compared}", "--kinds=hard_monotonic,dot:units=4", "--json"]
    assert main(again) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2


def test_a_finished_training_of_asr_train_is_only_measured(command, compared, monkeypatch):
    numbers = compared / "hard_monotonic-1" / "comparison.json"
    before = numbers.read_text()
    numbers.unlink()
    monkeypatch.setattr(loop.Training, "_run", None)
    assert main([*command, f"--out={compared}", "--kinds=hard_monotonic"]) == 0
    assert json.loads(numbers.read_text())["accuracy"] == json.loads(before)["accuracy"]


def test_an_interrupted_comparison_continues(command, tmp_path, monkeypatch):
    arguments = [*command, f"--out={tmp_path}", "--kinds=dot", "--seeds=1,2"]
    step, seen = loop.Training._step, []

    def stop_later(self, *args):
        seen.append(self.config.seed)
        step(self, *args)
        if seen == [1] * 6:
            self.stop()

    monkeypatch.setattr(loop.Training, "_step", stop_later)
    with pytest.raises(KeyboardInterrupt, match="saved after step 6"):
        main(arguments)
    assert not (tmp_path / "comparison.json").exists()
    assert main(arguments) == 0
    assert seen.count(1) == seen.count(2)  # no step was repeated
    data = json.loads((tmp_path / "comparison.json").read_text())
    assert [(row["label"], row["seed"]) for row in data["rows"]] == [("dot", 1), ("dot", 2)]
    assert "| dot | soft |     2 |" in (tmp_path / "comparison.md").read_text()


def test_a_training_that_diverges_does_not_end_the_comparison(command, tmp_path, monkeypatch):
    run = loop.Training.run

    def diverge(self):
        if self.config.model.attention.kind == "dot":
            raise loop.Diverged("10 batches were skipped")
        return run(self)

    monkeypatch.setattr(loop.Training, "run", diverge)
    assert main([*command, f"--out={tmp_path}", "--kinds=dot,additive", "--epochs=1"]) == 1
    rows = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["additive"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--kinds=dot,rnnt", "--kinds rnnt: unknown, expected some of location, additive"),
        ("--kinds=dot:filters=3", "filters=3, expected SETTING=VALUE; the settings of dot are"),
        ("--kinds=general:units=3", "units=3, expected .*; the settings of general are heads"),
        (
            "--kinds=location:filters=many",
            "--kinds location:filters=many: filters = many",
        ),
        ("--kinds=dot,dot", "--kinds: dot is named twice"),
        ("--kinds=location:heads=[", r"--kinds location:heads=\[: heads=\[, expected a value"),
        ("--kinds=location:heads=1:heads=2", "heads is there twice"),
        ("--seeds=1,1", "--seeds 1,1: expected each seed once"),
        ("--ctm=none.ctm", "none.ctm: cannot read"),
        ("--cells=gru,rnn", "--cells rnn: unknown, expected some of gru, lstm"),
        ("--cells=gru:units=3", "--cells gru:units=3: unknown"),
        ("--seeds=1;2", "--seeds 1;2: expected numbers"),
    ],
)
def test_bad_options(option, message, command, tmp_path):
    with pytest.raises(InputError, match=message):
        main([*command, f"--out={tmp_path}", option])


def test_only_one_thing_is_compared(command, tmp_path):
    with pytest.raises(InputError, match="--kinds and --cells: one thing is compared at a time"):
        main([*command, f"--out={tmp_path}", "--kinds=dot", "--cells=gru"])


def test_the_folder_of_another_training_is_refused_before_any_training(command, compared):
    with pytest.raises(
        InputError,
        match=r"other settings is here: optim\.learning_rate was 0\.01, is 0\.5; use the",
    ):
        main([*command, f"--out={compared}", "--kinds=mocha,hard_monotonic",
              "--optim.learning_rate=0.5"])  # fmt: skip
    assert not (compared / "mocha-1").exists()


def test_cells_and_encoders_keep_the_rest():
    config = TrainConfig()
    (row,) = make_rows(config, "cells", ["lstm"], [3], "exp", "data/dev")
    assert row.config.model.decoder.cell == "lstm" and str(row.folder) == "exp/lstm-3"
    encoder = EncoderConfig(units=6, pyramid=(2, 2, 1))
    stacks = {name: EncoderConfig(layers=tuple(make(encoder))) for name, make in ENCODERS.items()}
    assert stacks["gru"].stack == encoder.stack
    assert {each.frames_per_step for each in stacks.values()} == {4}
    assert {name: stacks[name].width(20) for name in stacks} == {
        "gru": 12, "lstm": 12, "one_directional": 6, "conv2d": 12, "attention": 12
    }  # fmt: skip


def test_an_encoder_that_does_not_fit_is_named():
    config = TrainConfig(model=ModelConfig(encoder=EncoderConfig(pyramid=(3,))))
    message = r"--encoders conv2d does not fit pyramid \[3\] and 256 units: reduction = 3, expected"
    with pytest.raises(InputError, match=message):
        make_rows(config, "encoders", ["conv2d"], [1], "exp", "data/dev")


def test_joined_utterances_have_pauses_between_them():
    one = [Spoken(str(i), np.full(10, i, np.float32), f"W{i}") for i in range(1, 6)]
    first, second = join(one, 2, sample_rate=10)
    assert first.text == "W1 W2" and second.text == "W3 W4"  # the fifth is left out
    assert first.waveform.tolist() == [1] * 10 + [0] * 3 + [2] * 10
    assert join(one, 1, 10)[4].waveform.tolist() == [5] * 10


def test_soft_is_hard_switched_off(compared, tone_corpus):
    trained = Trained.from_folder(compared / "hard_monotonic-1")
    assert trained.forms == ("hard", "soft")
    trained.use_form("soft")
    assert trained.model.las.decoder.hard is False
    found = {}
    features = [trained.recognizer().features(read_dev(tone_corpus / "dev", 16000)[0].waveform)]
    for form in trained.forms:
        trained.use_form(form)
        found[form] = trained.model.teacher_force(trained.model.encode(features), [[1, 2, 1]])
    hard, soft = (found[form][0].attention for form in ("hard", "soft"))
    assert set(np.unique(hard)) <= {0.0, 1.0}
    assert len(np.unique(soft)) > 2


def test_words_of_a_ctm_are_the_reference(compared, tone_corpus, tmp_path):
    trained = Trained.from_folder(compared / "dot_4_units-1")
    spoken = read_dev(tone_corpus / "dev", 16000)
    path = tmp_path / "dev.ctm"
    lines = [f"{s.id} 1 {i / 10} 0.1 {w}" for s in spoken for i, w in enumerate(s.text.split())]
    path.write_text("\n".join(lines) + "\n")
    assert times_of_ctm(path, spoken)["s2-01"] == [(0.0, 0.1), (0.1, 0.2)]
    assert word_time_errors(trained, spoken, str(path))["soft"]["error_ms"] >= 0
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match="1 words of s2-01, expected the 2 of its transcript"):
        word_time_errors(trained, spoken, str(path))


def test_the_delay_counts_from_the_end_of_a_word(compared, tone_corpus, monkeypatch):
    """A word of three characters ends at 0.1 s; its last character reads up to step 4 of 40 ms."""
    trained = Trained.from_folder(compared / "hard_monotonic-1")
    attention = np.eye(8, dtype=np.float32)[[1, 2, 4, 7]]
    monkeypatch.setattr(
        trained.model, "teacher_force", lambda *_: [SimpleNamespace(attention=attention)]
    )
    features = [np.zeros((32, 20), np.float32)]
    (delay,) = accuracy._delays(trained, features, ["ABC"], [[(0.0, 0.1)]])
    assert delay == pytest.approx(5 * 0.04 - 0.1)


def test_speed_of_both_forms(compared, tone_corpus, monkeypatch):
    step = {"processor_seconds": 0.5, "peak_memory_mb": 100.0}
    monkeypatch.setattr(speed, "in_child", lambda arguments: step)
    monkeypatch.setattr(speed, "JOINED", (1, 2))
    found = speed.measure(compared / "hard_monotonic-1", str(tone_corpus / "dev"))
    assert found["step_s"] == 0.5 and found["load"] >= 0
    for form in ("hard", "soft"):
        assert all(value > 0 for value in found["forms"][form]["rtf"].values())
        assert found["forms"][form]["decoder"].keys() == {"1", "2"}


def test_the_table_has_means_over_seeds_and_leaves_out_empty_columns(tmp_path):
    def run(label, seed, wer):
        forms = {"soft": {"with_ctc": {"1": {"wer": wer, "cer": 0.0}}}}
        return {"label": label, "seed": seed, "accuracy": {"forms": forms, "reference": "CTC"}}

    found = lines([run("dot", 1, 0.3), run("additive", 1, 0.2), run("dot", 2, 0.4)])
    assert list(table(found, ERRORS)) == [
        "|          | form | seeds | WER % |",
        "| -------- | ---- | ----: | ----: |",
        "| additive | soft |     1 |  20.0 |",
        "| dot      | soft |     2 |  35.0 |",
    ]
    data = {"train": "data/train", "dev": "data/dev", "machine": {"commit": "c", "processor": "p"}}
    text = write({**data, "rows": [run("dot", 1, 0.3)]}, tmp_path)
    assert "Trained on data/train, measured on data/dev with commit c, p." in text


def test_numbers_of_another_model_or_dev_set_do_not_count(compared, tone_corpus, tmp_path):
    config = from_dict(TrainConfig, {**TINY, "epochs": 2})
    ours = config, "kinds", ["hard_monotonic"], [1], compared
    (row,) = make_rows(*ours, tone_corpus / "dev")
    assert row.missing(("accuracy",), None) == []
    (tmp_path / "dev.ctm").write_text("s2-01 1 0.0 0.1 A\n")
    assert row.missing(("accuracy",), str(tmp_path / "dev.ctm")) == ["accuracy"]
    (other,) = make_rows(*ours, tone_corpus / "train")
    assert other.saved() == {} and other.missing(("accuracy",), None) == ["accuracy"]
    shutil.copytree(row.folder, tmp_path / row.folder.name)
    (copy,) = make_rows(*ours[:4], tmp_path, tone_corpus / "dev")
    assert copy.saved() == row.saved()
    with (copy.folder / "final.safetensors").open("ab") as file:
        file.write(b"0")
    assert copy.saved() == {}
