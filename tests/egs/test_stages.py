"""Stages are run, skipped, and resumed."""

import fcntl
import os

import pytest

SCRIPT = """
stage=0
stop_stage=4
force=false
seed=1
. utils/stages.sh
. utils/parse_options.sh
set -euo pipefail
if stage_begin 0 "copy" in.txt seed=$seed; then
  cp in.txt out.txt
  echo "ran 0 changed=$stage_changed"
  stage_done out.txt
fi
if stage_begin 4 "train" out.txt; then
  [ ! -e break ]
  cp out.txt model
  stage_done model
fi
"""
DONE = "done already, inputs unchanged"


@pytest.fixture
def run(bash, recipe):
    (recipe / "in.txt").write_text("a")
    return lambda *arguments: bash(SCRIPT, *arguments)


def test_second_run_does_nothing(run):
    first, second = run(), run()
    assert first.stdout.splitlines() == ["stage 0: copy", "ran 0 changed=false", "stage 4: train"]
    assert [DONE in line for line in second.stdout.splitlines()] == [True, True]


@pytest.mark.parametrize("file", ["in.txt", "out.txt"])
def test_changed_input_or_output_runs_again(run, recipe, file):
    run()
    (recipe / file).write_text("b")
    assert "ran 0" in run().stdout


def test_touching_a_file_changes_nothing(run, recipe):
    run()
    os.utime(recipe / "in.txt", (1, 1))
    assert "ran 0" not in run().stdout


def test_same_output_leaves_later_stages_alone(run):
    run()
    lines = run("--seed", "2").stdout.splitlines()
    assert lines[:2] == ["stage 0: copy", "ran 0 changed=true"]
    assert lines[2].startswith("stage 4: train: done already")


def test_missing_output_runs_again(run, recipe):
    run()
    (recipe / "model").unlink()
    assert run().stdout.splitlines()[-1] == "stage 4: train"


def test_force(run):
    run()
    assert run("--force", "true").stdout.splitlines() == [
        "stage 0: copy",
        "ran 0 changed=true",
        "stage 4: train",
    ]


def test_a_stage_is_not_begun_while_another_run_is_in_it(run, recipe):
    run()
    begun = (recipe / "exp" / ".stages" / "0.begun").read_text()
    with open(recipe / "exp" / ".stages" / "0.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = run("--seed", "2")
    assert second.returncode == 2 and second.stdout == ""
    assert "copy: another run of this recipe is at work on it" in second.stderr
    assert (recipe / "exp" / ".stages" / "0.begun").read_text() == begun
    assert "ran 0 changed=true" in run("--seed", "2").stdout


def test_range(run):
    assert run("--stop-stage", "0").stdout.splitlines() == ["stage 0: copy", "ran 0 changed=false"]
    assert run("--stage", "4").stdout.splitlines() == ["stage 4: train"]


def test_failure_tells_how_to_go_on(run, recipe):
    (recipe / "break").touch()
    result = run("--stage", "0", "--seed", "3", "--force", "true")
    assert result.returncode == 1
    assert "stage 4 (train) failed" in result.stderr
    assert result.stderr.splitlines()[-1].endswith("run.sh --stage 4 --seed 3")
    (recipe / "break").unlink()
    assert run("--stage", "4", "--seed", "3").stdout.splitlines() == ["stage 4: train"]


def test_same_inputs_after_a_failure_are_no_change(run, recipe):
    (recipe / "break").touch()
    run()
    (recipe / "break").unlink()
    result = run()
    assert DONE in result.stdout.splitlines()[0]
    assert result.stdout.splitlines()[1] == "stage 4: train"


def test_a_full_disk_does_not_change_the_inputs(run, bash, recipe):
    """The training of stage 4 is resumed, not set aside, once there is space."""
    script = SCRIPT.replace("[ ! -e break ]", "echo changed=$stage_changed; [ ! -e break ]")
    (recipe / "break").touch()
    bash(script)
    full = bash("trap '' XFSZ\nulimit -f 0\n" + script, "--stage", "4")
    assert full.returncode == 1
    assert "exp/.stages/4.begun: cannot be written; free some space" in full.stderr
    assert "stage 4 (train) failed" in full.stderr
    (recipe / "break").unlink()
    assert bash(script, "--stage", "4").stdout.splitlines() == ["stage 4: train", "changed=false"]


def test_missing_output(bash, recipe):
    (recipe / "in.txt").touch()
    result = bash(SCRIPT.replace("cp in.txt out.txt", "true"))
    assert result.returncode == 2
    assert "out.txt: not there; this stage should have written it" in result.stderr
    assert "stage 0 (copy) failed" in result.stderr


def test_missing_input(run, recipe):
    (recipe / "in.txt").unlink()
    result = run()
    assert result.returncode == 2
    assert "in.txt: not there; check the path, or run the stage" in result.stderr


def test_what_is_set_aside_is_kept(bash, recipe):
    (recipe / "exp").mkdir()
    (recipe / "exp" / "model").write_text("old")
    script = "stage_dir=x stage=0 stop_stage=0 force=false\n. utils/stages.sh\nset_aside exp\n"
    assert "the old contents of" in bash(script).stdout
    (kept,) = recipe.glob("exp.*")
    assert (kept / "model").read_text() == "old"
    assert not (recipe / "exp").exists()


def test_paths_of_the_caller(bash, recipe, tmp_path):
    (tmp_path / "corpus").mkdir()
    script = f"""
caller_dir=$PWD
cd {recipe}
. utils/stages.sh
of_caller corpus
of_caller conf/train.yaml
of_caller /absolute
of_caller conf/default.yaml
"""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "default.yaml").touch()  # of another recipe: the user did not type it
    result = bash(script, "corpus", "conf/train.yaml", "/absolute", cwd=tmp_path)
    assert result.stdout.splitlines() == [
        f"{tmp_path}/corpus",
        "conf/train.yaml",
        "/absolute",
        "conf/default.yaml",
    ]


def test_long_options_are_compared_as_they_are(capsys):
    import signature

    options = "options=" + "--epochs 1 " * 100
    assert signature.main(["--inputs", options]) == 0
    assert capsys.readouterr().out == f"{options}\n"


def test_large_tables_are_compared_by_their_content(tmp_path, monkeypatch):
    import signature

    monkeypatch.setattr(signature, "LARGE", 10)
    states = []
    (tmp_path / "a.wav").write_text("")
    for name in ("text", "wav.scp", "cmvn.ark"):
        path = tmp_path / name
        path.write_text(f"a\t{tmp_path}/a.wav\n")
        before = signature.file_state(path)
        os.utime(path, (1, 1))
        states.append(signature.file_state(path) == before)
    assert states == [True, True, False]
    before = signature.file_state(tmp_path / "wav.scp")
    (tmp_path / "a.wav").write_text("other audio")
    assert signature.file_state(tmp_path / "wav.scp") != before


def test_folders_are_compared_by_their_files(tmp_path, monkeypatch, capsys):
    import signature

    monkeypatch.chdir(tmp_path)
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f.txt").write_text("1")
    (tmp_path / "d" / "a.wav").write_text("1")

    def state():
        signature.main(["d", "a=b/c"])
        return capsys.readouterr().out

    before = state()
    assert before.splitlines()[1] == "a=b/c"
    os.utime(tmp_path / "d" / "e" / "f.txt", (1, 1))
    assert state() == before
    os.utime(tmp_path / "d" / "a.wav", (1, 1))  # audio: by time, not by content
    after = state()
    assert after != before
    (tmp_path / "d" / "e" / "f.txt").rename(tmp_path / "d" / "e" / "g.txt")
    assert state() != after
