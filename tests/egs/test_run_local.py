"""Jobs on this machine, called as with Kaldi's run.pl."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

RUN_LOCAL = Path(__file__).resolve().parents[2] / "egs" / "utils" / "run_local.sh"


def run(folder, *arguments):
    return subprocess.run(
        [RUN_LOCAL, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_log_has_command_output_and_end(tmp_path):
    result = run(tmp_path, "exp/log/a.log", "echo", "hello world")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    lines = (tmp_path / "exp/log/a.log").read_text().splitlines()
    assert lines[0] == r"# echo hello\ world"
    assert lines[1].startswith("# Started at ")
    assert lines[3] == "hello world"
    assert lines[4].startswith("# Accounting: time=")
    assert lines[5].startswith("# Ended (code 0) at ")


def test_arguments_reach_no_shell(tmp_path):
    run(tmp_path, "a.log", "echo", "$(touch made)", "; touch made", "|")
    assert "$(touch made) ; touch made |" in (tmp_path / "a.log").read_text()
    assert not (tmp_path / "made").exists()


def test_jobs_have_numbers(tmp_path):
    result = run(tmp_path, "JOB=2:4", "log/x.JOB.log", "bash", "-c", "echo JOB of JOB > out.JOB")
    assert result.returncode == 0
    assert [(tmp_path / f"out.{n}").read_text() for n in (2, 3, 4)] == [
        f"{n} of {n}\n" for n in (2, 3, 4)
    ]
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == [f"x.{n}.log" for n in (2, 3, 4)]


def test_failure_shows_the_end_of_the_log(tmp_path):
    script = "seq 100; echo broken; exit 3"
    result = run(tmp_path, "x.log", "bash", "-c", script)
    assert result.returncode == 1
    shown = result.stderr.splitlines()
    assert shown[0] == "run_local.sh: 1 / 1 failed, log is in x.log"
    assert "  broken" in shown
    assert "  100" in shown
    assert len(shown) == 2 + 20
    assert "# Ended (code 3) at " in shown[-1]


def test_failures_are_counted_and_others_finish(tmp_path):
    command = ["bash", "-c", "sleep 0.1; touch done.JOB; [ JOB -ne 2 ] && [ JOB -ne 3 ]"]
    result = run(tmp_path, "JOB=1:4", "x.JOB.log", *command)
    assert result.returncode == 1
    assert "run_local.sh: 2 / 4 failed, log is in x.*.log" in result.stderr
    assert "the end of x.2.log" in result.stderr
    assert len(list(tmp_path.glob("done.*"))) == 4


def test_options_may_come_after_the_jobs(tmp_path):
    """Kaldi's run.pl takes them on both sides of JOB=1:N."""
    command = ["--mem", "2G", "JOB=1:2", "--max-jobs-run", "1", "x.JOB.log", "echo", "JOB=7"]
    assert run(tmp_path, *command).returncode == 0
    assert [(tmp_path / f"x.{n}.log").read_text().splitlines()[3] for n in (1, 2)] == ["1=7", "2=7"]


def test_no_more_jobs_at_a_time_than_allowed(tmp_path):
    command = ["bash", "-c", "touch on.JOB; set -- on.*; echo $#; sleep 0.2; rm on.JOB"]
    result = run(tmp_path, "--max-jobs-run", "2", "JOB=1:5", "x.JOB.log", *command)
    assert result.returncode == 0
    counts = [
        int(line)
        for path in tmp_path.glob("x.*.log")
        for line in path.read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(counts) == 5
    assert max(counts) <= 2


def test_options_for_queues_are_skipped(tmp_path):
    assert run(tmp_path, "--mem", "4G", "--gpu", "1", "x.log", "true").returncode == 0


def test_shown_output_is_in_the_log_too(tmp_path):
    result = run(tmp_path, "--show", "true", "x.log", "bash", "-c", "echo epoch 1; exit 7")
    assert result.returncode == 1
    assert result.stdout == "epoch 1\n"
    assert "\nepoch 1\n" in (tmp_path / "x.log").read_text()


def test_bad_calls(tmp_path):
    assert "several jobs would write into one log" in run(tmp_path, "JOB=1:2", "x", "true").stderr
    assert run(tmp_path, "x.log").returncode == 2
    assert "comes after the last" in run(tmp_path, "JOB=3:2", "x.JOB", "true").stderr


def test_a_screen_that_is_gone_costs_no_output(tmp_path):
    """What `| head -n 1` does: the job runs on and its log is whole."""
    reading, writing = os.pipe()
    script = "echo first; while ! [ -e closed ]; do sleep 0.02; done; seq 20000"
    command = [RUN_LOCAL, "--show", "true", "x.log", "bash", "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, stdout=writing) as process:
        os.close(writing)
        assert os.read(reading, 6) == b"first\n"
        os.close(reading)
        (tmp_path / "closed").touch()
    assert process.returncode == 0
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert lines[-3] == "20000" and "# Ended (code 0)" in lines[-1]


def start_and_interrupt(folder, *arguments, jobs, number=signal.SIGINT):
    """Start jobs that make a file ``ready.N`` each, then press Ctrl-C; the exit code.

    Another signal than Ctrl-C's goes to the script alone, not to all processes of its group.
    """
    process = subprocess.Popen(
        [RUN_LOCAL, *arguments],
        cwd=folder,
        start_new_session=True,
        # tests that run in the background were started with Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(folder.glob("ready.*"))) < jobs:
        assert process.poll() is None
        time.sleep(0.02)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    return process.wait(timeout=30)


WAITS = "trap 'echo saved > state.JOB; exit 0' {}; touch ready.JOB; while true; do sleep 0.05; done"


def test_ctrl_c_lets_a_job_save_its_state(tmp_path):
    command = ["bash", "-c", WAITS.format("INT")]
    code = start_and_interrupt(tmp_path, "--show", "true", "JOB=1", "x.log", *command, jobs=1)
    assert code == 130
    assert (tmp_path / "state.1").read_text() == "saved\n"
    assert "# Ended (code 0)" in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize("show", ["true", "false"])
def test_a_job_that_ends_at_once_keeps_its_exit_code(tmp_path, show):
    """It ends while its end is waited for and the signal is dealt with."""
    command = ["bash", "-c", "trap 'exit 7' INT; touch ready.JOB; while true; do :; done"]
    arguments = ["--show", show, "JOB=1", "x.log", *command]
    assert start_and_interrupt(tmp_path, *arguments, jobs=1) == 130
    assert "# Ended (code 7)" in (tmp_path / "x.log").read_text()


def test_ctrl_c_reaches_every_job_of_an_array(tmp_path):
    command = ["bash", "-c", WAITS.format("TERM")]
    code = start_and_interrupt(tmp_path, "JOB=1:3", "x.JOB.log", *command, jobs=3)
    assert code == 130
    assert sorted(p.name for p in tmp_path.glob("state.*")) == ["state.1", "state.2", "state.3"]


def test_every_running_job_is_waited_for_after_an_interruption(tmp_path):
    """More jobs are to come than may run at a time, and these take a while to save."""
    command = ["bash", "-c", WAITS.format("TERM").replace("echo", "sleep 0.5; echo")]
    arguments = ["--max-jobs-run", "2", "JOB=01:06", "x.JOB.log", *command]
    assert start_and_interrupt(tmp_path, *arguments, jobs=2) == 130
    assert sorted(p.name for p in tmp_path.glob("state.*")) == ["state.1", "state.2"]


@pytest.mark.parametrize("show", ["true", "false"])
def test_a_single_job_is_told_to_end_and_may_save(tmp_path, show):
    command = ["bash", "-c", WAITS.format("TERM")]
    options = ["--show", show, "JOB=1", "x.log"]
    code = start_and_interrupt(tmp_path, *options, *command, jobs=1, number=signal.SIGTERM)
    assert code == 130
    assert (tmp_path / "state.1").read_text() == "saved\n"
    assert "# Ended (code 0)" in (tmp_path / "x.log").read_text()
