"""Benchmarks: all toolkits do the same work, and the numbers are plausible."""

import json
from dataclasses import asdict

import pytest
import torch

from asr.bench import fingerprint as bench_fingerprint
from asr.bench import peers
from asr.bench.baseline import Baseline
from asr.bench.benchmarks import _search_setting
from asr.bench.fingerprint import fingerprint
from asr.bench.shape import LOSS, Shape
from asr.commands import bench as cli
from asr.commands.bench import main
from asr.config import LossConfig
from asr.config.kinds import ATTENTIONS
from asr.errors import InputError
from asr.model import machine
from asr.model.runtime import TorchModel
from asr.search.beam import search

TINY = Shape(batch=3, frames=40, chars=6, layers=2, units=16, beam=3)
SIZES = ["--batch=3", "--frames=40", "--layers=2", "--units=16"]


def test_plain_torch_computes_the_same_loss_and_gradients():
    ours, data = TINY.model(), TINY.data()
    baseline = Baseline(TINY.model())
    loss, other = ours(data, LOSS, data.count).total, baseline.loss(data)
    torch.testing.assert_close(loss, other)
    loss.backward()
    other.backward()
    torch.testing.assert_close(
        ours.encoder.layers[0].U.grad[1].t(), baseline.encoder.layers[0].weight_hh_l0_reverse.grad
    )
    torch.testing.assert_close(
        torch.cat([ours.decoder.cell.W_0.grad, ours.decoder.cell.W_1.grad]).t(),
        baseline.cell.weight_ih.grad,
    )


def test_lengths_go_from_all_to_seven_tenths():
    assert Shape().lengths(800).tolist()[::5] == [800, 720, 640, 560]


def test_operations_of_a_step_by_hand():
    """One utterance, 2 frames, 1 character (and the end), one layer of one unit."""
    shape = Shape(batch=1, frames=2, chars=1, layers=1, units=1)
    model = shape.model()
    encoder = 6 * (2 * 160 + 3)  # one step: input twice, for no gradient of it is wanted
    step = 2 * 128 + 2 * 3  # keys, values
    character = 3 + 3 + 128 + 3 * 31  # embedding, recurrence, query, readout
    pair = 10 * 31 + 10 * 128 + 128 + 3 + 2
    total = encoder + 3 * (step + 2 * character + 2 * pair)
    assert shape.step_gflops(model) == pytest.approx(2 * total / 1e9)


def test_the_list_of_attentions_names_every_kind_and_its_paper(capsys):
    assert main(["attention", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["kind", *ATTENTIONS]
    main(["attention", "--list", "--json"])
    rows = {row["kind"]: row for row in json.loads(capsys.readouterr().out)}
    assert all(row["paper"].startswith("arXiv:") and row["title"] for row in rows.values())
    assert rows["mocha"]["paper"] == "arXiv:1712.05382" and rows["mocha"]["search"] == "hard"
    assert rows["gmm"]["weights sum to"] == "0 to 1"


@pytest.mark.parametrize("work", ["train", "decode"])
def test_numbers_of_a_step_and_a_search(work, capsys):
    own, other = ("chars", "beam") if work == "train" else ("beam", "chars")
    assert main([work, *SIZES, f"--{own}=3", "--repeats=1", "--threads=1", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["work"] == work and numbers["units"] == 16
    assert numbers[own] == 3 and other not in numbers
    assert numbers["seconds"] > 0 and numbers["peak_memory_mb"] > 0


def test_settings_of_a_training_are_measured(tmp_path, capsys):
    config = tmp_path / "train.yaml"
    config.write_text("model: {encoder: {units: 8, pyramid: [2]}, decoder: {units: 4}}")
    assert (
        main(["train", *SIZES, f"--config={config}", "--repeats=1", "--threads=1", "--json"]) == 0
    )
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["parameters"] < sum(p.numel() for p in TINY.model().parameters())
    with pytest.raises(InputError, match="--who baseline: does not support --config"):
        main(["train", *SIZES, f"--config={config}", "--who=baseline", "--threads=1"])


def test_filterbanks_beside_torchaudios(capsys):
    assert main(["features", "--seconds=2", "--repeats=1", "--threads=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["times_torchaudio"] > 0


def test_a_size_out_of_range_is_refused():
    with pytest.raises(InputError, match="--frames: 0, expected 1 to 1000000"):
        main(["train", "--frames=0", "--threads=1"])


def test_help_contains_the_defaults():
    assert {name: size for name, (size, _) in cli.SIZES.items()} == asdict(Shape())


def test_others_are_measured_on_the_processor_only(monkeypatch):
    monkeypatch.setattr(machine, "pick_device", torch.device)  # as if there were a GPU
    for option in ("--device=cuda", "--precision=bfloat16"):
        with pytest.raises(InputError, match="--who baseline: measured on the processor"):
            main(["train", *SIZES, "--who=baseline", option])


@pytest.mark.parametrize("option", ["--who=baseline", "--config=x.yaml"])
def test_the_fingerprint_has_settings_of_its_own(option):
    with pytest.raises(InputError, match="leave out --who, --config"):
        main(["train", "--fingerprint", option])


def test_plain_torch_has_no_search():
    with pytest.raises(InputError, match="invalid choice: 'baseline'"):
        main(["decode", *SIZES, "--who=baseline"])


def test_espnet_finds_the_same_hypotheses():
    pytest.importorskip("espnet")
    model, states, steps = _search_setting(TINY)
    with torch.no_grad():
        memory = model.decoder.precompute(states, steps)
        from asr.config import DecodeConfig

        runtime = TorchModel(model)
        found = search(runtime, runtime.encoded(memory), DecodeConfig(beam=3, ctc_weight=0.0))
    theirs = peers.espnet_search(TINY, model, states, steps)()
    assert [list(best[0].tokens) for best in found] == theirs


def test_the_fingerprint_is_the_same_twice_and_changes_with_a_weight(monkeypatch):
    monkeypatch.setattr(bench_fingerprint, "STEPS", 5)
    first, second = fingerprint(), fingerprint()
    assert first == second
    assert all(len(losses) == 5 and losses[-1] < losses[0] for losses in first["losses"].values())
    monkeypatch.setattr(bench_fingerprint, "LOSS", LossConfig(ctc_weight=0.3, consistency=0.2001))
    assert fingerprint()["losses_sha"] != first["losses_sha"]


@pytest.mark.parametrize("name", ["espnet", "speechbrain"])
def test_a_peer_that_is_not_installed(name, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"{name}: not installed; run pip install"):
        main(["decode", *SIZES, "--who", name])
