"""Jobs through Slurm and SGE: with stand-ins for their commands, and with Debian's Slurm."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "egs" / "utils"

# Runs the tasks of an array in the background; their process ids are in the folder "running".
SUBMIT = r"""#!/usr/bin/env bash
echo "${0##*/} $*" >>submitted
mkdir -p running
for word in "$@"; do script=$word; done
while [ $# -gt 0 ]; do
  case $1 in
    --array=*) tasks=${1#--array=} ;;
    --output=*) output=${1#--output=} ;;
    -t) tasks=$2 ;;
    -o) output=${2//\$TASK_ID/%a} ;;
  esac
  shift
done
tasks=${tasks%%%*}
for range in ${tasks//,/ }; do
  for task in $(seq "${range%-*}" "${range#*-}"); do
    [ ! -e lost.$task ] || continue # as if its node had failed
    export SLURM_ARRAY_TASK_ID=$task SGE_TASK_ID=$task
    bash "$script" >"${output/%a/$task}" 2>&1 </dev/null &
    echo $! >running/$!
  done
done
wc -l <submitted
"""
IN_QUEUE = r"""#!/usr/bin/env bash
for pid in $(ls running); do
  if kill -0 $pid 2>/dev/null; then echo "$pid"; found=true; fi
done
[ -n "${found:-}" ] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
"""
CANCEL = "#!/usr/bin/env bash\nkill $(ls running)\n"
COMMANDS = {
    "slurm": {"sbatch": SUBMIT, "squeue": IN_QUEUE, "scancel": CANCEL},
    "sge": {"qsub": SUBMIT, "qstat": IN_QUEUE, "qdel": CANCEL},
}


@pytest.fixture(params=COMMANDS)
def queue(request, tmp_path):
    """Start ``slurm.sh`` or ``sge.sh`` in a recipe, with stand-ins for the queue."""
    (tmp_path / "utils").symlink_to(UTILS)
    (tmp_path / "bin").mkdir()
    for name, text in COMMANDS[request.param].items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def start(*arguments):
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        return subprocess.Popen(
            [f"utils/{request.param}.sh", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    start.name = request.param
    return start


def ended(process):
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def wait_for(path):
    for _ in range(300):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} is not made")


def submitted(folder):
    return (folder / "submitted").read_text().splitlines()


def test_jobs_have_numbers_and_logs(queue, tmp_path):
    command = ["bash", "-c", 'echo "job JOB: $0" > out.JOB', "a 'quoted' $word"]
    assert ended(queue("--mem", "2G", "JOB=2:4", "log/x.JOB.log", *command)) == (0, "")
    for n in (2, 3, 4):
        assert (tmp_path / f"out.{n}").read_text() == f"job {n}: a 'quoted' $word\n"
        assert "# Ended (code 0) at " in (tmp_path / f"log/x.{n}.log").read_text()


def test_a_command_without_number(queue, tmp_path):
    assert ended(queue("x.log", "bash", "-c", "echo JOB")) == (0, "")
    assert "\nJOB\n" in (tmp_path / "x.log").read_text()


def test_failed_jobs_are_named_with_their_logs(queue, tmp_path):
    command = ["bash", "-c", "touch made.JOB; echo broken; [ JOB -ne 2 ] && [ JOB -ne 3 ]"]
    code, err = ended(queue("JOB=1:4", "x.JOB.log", *command))
    lines = err.splitlines()
    assert code == 1
    assert lines[:4] == [
        f"{queue.name}.sh: 2 / 4 failed:",
        "  x.2.log: failed",
        "  x.3.log: failed",
        f"{queue.name}.sh: the end of x.2.log:",
    ]
    assert "  broken" in lines
    assert len(list(tmp_path.glob("made.*"))) == 4


def test_a_job_that_is_lost_is_named(queue, tmp_path):
    (tmp_path / "lost.2").touch()
    code, err = ended(queue("--grace", "1", "JOB=1:2", "x.JOB.log", "true"))
    assert code == 1
    assert "1 / 2 failed:\n  x.2.log: ended without an exit code (memory, time limit or" in err


SAVES = """
trap 'touch saved.JOB; exit 143' TERM
[ ! -e saved.JOB ] || exit 0
touch started.JOB
sleep 60 & wait
"""


@pytest.mark.parametrize("requeue", [True, False])
def test_a_warning_before_the_time_limit(queue, tmp_path, requeue):
    """The job saves and, with --requeue true, is submitted again; the other one is not."""
    command = ["bash", "-c", f"[ JOB -ne 1 ] || exit 0\n{SAVES}"]
    process = queue("--requeue", str(requeue).lower(), "JOB=1:2", "x.JOB.log", *command)
    wait_for(tmp_path / "started.2")
    wait_for(tmp_path / "q" / "x.JOB.log.1.code")
    for path in (tmp_path / "running").iterdir():
        subprocess.run(["kill", "-USR1", path.name], stderr=subprocess.DEVNULL)
    code, err = ended(process)
    assert (tmp_path / "saved.2").exists()
    if requeue:
        assert (code, len(submitted(tmp_path))) == (0, 2)
        assert "stopped before the time limit, submitted again: job 2\n" in err
    else:
        assert (code, len(submitted(tmp_path))) == (1, 1)
        assert "x.2.log: stopped before its time limit; --requeue true goes on" in err


def test_interrupted_jobs_are_cancelled(queue, tmp_path):
    process = queue("JOB=1:2", "x.JOB.log", "bash", "-c", SAVES)
    wait_for(tmp_path / "started.1")
    wait_for(tmp_path / "started.2")
    process.send_signal(signal.SIGTERM)
    code, err = ended(process)
    assert code == 130
    assert "interrupted, log is in x.JOB.log" in err
    assert (tmp_path / "saved.1").exists() and (tmp_path / "saved.2").exists()


def test_options_reach_the_queue(queue, tmp_path):
    options = ["--mem", "4G", "--num-threads", "3", "--gpu", "2", "--time", "1:00:00"]
    options += ["--partition", "big", "--max-jobs-run", "5", "--options", "--more 1"]
    assert ended(queue(*options, "JOB=1:9", "x.JOB.log", "true"))[0] == 0
    (line,) = submitted(tmp_path)
    expected = {
        "slurm": "--array=1-9%5 --cpus-per-task=3 --gres=gpu:2 --mem=4G --time=1:00:00 "
        "--partition=big --signal=B:USR1@120 --more",
        "sge": "-t 1-9 -tc 5 -pe smp 3 gpu=2 mem_free=4G h_rt=1:00:00 s_rt=3480 -q big --more",
    }
    assert set(expected[queue.name].split()) <= set(line.split())


def test_unknown_options_are_refused(queue):
    code, err = ended(queue("--memory", "4G", "x.log", "true"))
    assert code == 2 and "--memory: no such option" in err


def test_a_refused_submission_is_reported(queue, tmp_path):
    for name in ("sbatch", "qsub"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    code, err = ended(queue("x.log", "true"))
    assert code == 2
    assert "no such partition" in err and "the jobs of x.log cannot be submitted" in err
