"""Trainings that are killed end with the weights of an undisturbed one."""

import json
import subprocess
import sys

import pytest

from asr.bench import faults


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize(("kills", "ranks"), [(5, 1), (2, 2)])
def test_kills_change_nothing(kills, ranks):
    """Of the training, of one of two processes, and of those that read audio."""
    command = [sys.executable, "-m", "asr", "bench", "faults", "--json"]
    command += ["--kills", str(kills), "--ranks", str(ranks)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["identical"] and sum(found["hits"].values()) == kills


def test_differences_are_found(tmp_path, monkeypatch):
    weights = {"whole": 1.0, "one": 1.0, "two": 1.5}
    for name, step in (("whole", 1), ("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        line = {"step": step, "loss": 0.5, "seconds": len(name)}
        (tmp_path / name / "train.jsonl").write_text(json.dumps(line) + "\n")
    monkeypatch.setattr(faults, "_weights", lambda out: {"w": weights[out.name]})

    def compare(*names):
        return faults._compare(tmp_path / "whole", [tmp_path / name for name in names])

    assert compare("one")["identical"]
    found = compare("one", "two")
    assert not found["identical"] and not found["same_steps"]
    assert found["largest_difference"] == 0.5
    (tmp_path / "one" / ".0.tmp").touch()
    assert compare("one")["partial_files"] == ["one/.0.tmp"]
    assert not compare("one")["identical"]


def test_numbers_of_several_processes_may_be_rounded():
    ours, theirs = [{"step": 1, "loss": 0.5}], [{"step": 1, "loss": 0.5 + 1e-8}]
    assert faults._same(ours, theirs, 1e-6) and not faults._same(ours, theirs, 0.0)
    for other in ([], [{"step": 2, "loss": 0.5}], [{"step": 1}], [{"step": 1, "loss": None}]):
        assert not faults._same(ours, other, 1e-6)
