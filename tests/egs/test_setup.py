"""What egs/utils/setup.sh decides, with a Python that only pretends to install."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

FAKE = f"""#!/usr/bin/env bash
# Answers like Python as far as setup.sh asks; notes what it is told to do.
case "$1 $2" in
  "-m venv")
    echo "venv ${{@: -1}}" >> "$FAKE_CALLS"
    mkdir -p "${{@: -1}}/bin"
    rm -f "${{@: -1}}"/.setup-*
    cp "$0" "${{@: -1}}/bin/python"
    echo "VIRTUAL_ENV=\\"${{@: -1}}\\"" > "${{@: -1}}/bin/activate"
    ;;
  "-m pip")
    shift 2
    echo "pip $*" >> "$FAKE_CALLS"
    echo "Downloading torch (530.6 MB)"
    while [ -n "${{FAKE_WAIT:-}}" ] && [ ! -e "$FAKE_WAIT" ]; do sleep 0.02; done
    [ -z "${{FAKE_PIP_ERROR:-}}" ] || {{ echo "ERROR: $FAKE_PIP_ERROR"; exit 1; }}
    ;;
  *"[:3])"*) echo "${{FAKE_VERSION:-3.12.5}}" ;;
  *"< (3, 11)"*) [[ ${{FAKE_VERSION:-3.12.5}} != 3.[0-9].* ]] ;;
  *ensurepip*) [ -z "${{FAKE_NO_VENV:-}}" ] ;;
  *disk_usage*) echo "${{FAKE_FREE_GB:-100}}" ;;
  *"import torch"*) [ -z "${{FAKE_BROKEN:-}}" ] ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


class Project:
    """A repository with nothing but what the set-up needs."""

    def __init__(self, root: Path) -> None:
        self.root = root / "repository"
        (self.root / "egs" / "utils").mkdir(parents=True)
        for name in ("constraints.txt", "pyproject.toml", "egs/utils/setup.sh"):
            shutil.copy(REPOSITORY / name, self.root / name)
        self.python = root / "python"
        self.python.write_text(FAKE)
        self.python.chmod(0o755)
        self.calls_file = root / "calls"

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHON": str(self.python),
            "FAKE_CALLS": str(self.calls_file),
            "CXX": "c++",
            **variables,
        }
        return subprocess.Popen(
            [self.root / "egs/utils/setup.sh", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Exit code, and what was said."""
        process = self.start(*arguments, **variables)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def calls(self) -> list[str]:
        """What Python was told to do since the last time: venv, pip."""
        if not self.calls_file.exists():
            return []
        calls = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return [call.split()[0] for call in calls]

    def pip_arguments(self) -> str:
        return self.calls_file.read_text().splitlines()[-1]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


FULL = ["venv", "pip", "pip"]
UPDATE = ["pip", "pip"]


def test_makes_the_environment_once(project):
    code, said = project.run()
    assert code == 0
    assert "several GB once" in said
    assert "Downloading torch (530.6 MB)" in said
    assert project.pip_arguments().endswith(f"-c {project.root}/constraints.txt --progress-bar off")
    assert f"--editable {project.root}[test] " in project.pip_arguments()
    assert project.calls() == FULL
    assert project.run() == (0, "")
    assert project.calls() == []


def test_a_system_without_a_compiler_gets_one(project, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    names = "bash cat chmod cksum cp dirname env grep ln mkdir mv python3 rm sed sleep tail tee"
    for name in names.split(" "):
        (tools / name).symlink_to(shutil.which(name))
    code, said = project.run(PATH=str(tools), CXX="")
    assert code == 0, said
    assert " install ziglang " in project.pip_arguments()


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_requirements_are_installed_into_it(project, name):
    project.run()
    project.calls()
    with open(project.root / name, "a") as file:
        file.write("# changed\n")
    assert project.run()[0] == 0
    assert project.calls() == UPDATE


def test_lint_is_added_and_stays(project):
    project.run()
    project.calls()
    project.run("--lint")
    assert "[test,lint]" in project.pip_arguments()
    assert project.calls() == UPDATE
    project.run()
    project.run("--lint")
    assert project.calls() == []


def test_another_python_makes_another_environment(project):
    project.run()
    project.calls()
    project.python.write_text(FAKE.replace("3.12.5", "3.13.1"))
    project.run()
    assert project.calls() == FULL


def test_moved_repository_makes_another_environment(project):
    project.run()
    project.calls()
    project.root = project.root.rename(project.root.with_name("moved"))
    project.run()
    assert project.calls() == FULL


def test_environment_without_a_stamp_is_kept(project):
    project.run()
    (project.root / ".venv" / ".setup-stamp").unlink()
    project.calls()
    project.run()
    assert project.calls() == UPDATE


def files(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("content", ["environment", "other files", "nothing", "no folder"])
def test_what_a_link_points_to_is_left_alone(project, tmp_path, content):
    shared = tmp_path / "shared"
    if content == "environment":
        project.run()
        (project.root / ".venv").rename(shared)
        with open(project.root / "constraints.txt", "a") as file:
            file.write("# changed\n")
    elif content != "no folder":
        shared.mkdir()
        if content == "other files":
            (shared / "thesis.txt").write_text("keep")
    project.calls()
    (project.root / ".venv").symlink_to(shared)
    before = files(tmp_path)
    code, said = project.run()
    assert code == 1
    assert f"is a link to {shared}" in said and "rm " in said
    assert project.calls() == [] and files(tmp_path) == before


def test_a_link_to_an_environment_of_this_repository_will_do(project, tmp_path):
    project.run()
    (project.root / ".venv").rename(tmp_path / "elsewhere")
    (project.root / ".venv").symlink_to(tmp_path / "elsewhere")
    project.calls()
    assert project.run() == (0, "")
    assert project.calls() == []


def test_failed_pip_is_told_and_repaired(project):
    code, said = project.run(FAKE_PIP_ERROR="no route to host")
    assert code == 1
    assert "ERROR: no route to host" in said
    assert "run this again" in said
    project.calls()
    assert project.run()[0] == 0
    assert project.calls() == FULL  # what half an installation left is not trusted
    assert project.run() == (0, "")


def test_packages_that_do_not_work(project):
    code, said = project.run(FAKE_BROKEN="1")
    assert code == 1
    assert "were installed but do not work" in said
    assert not (project.root / ".venv" / ".setup-stamp").exists()


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"FAKE_VERSION": "3.9.2"}, "expected Python 3.11 or newer, found 3.9.2"),
        ({"PYTHON": "/nonexistent"}, "expected Python 3.11 or newer, found nothing that runs"),
        ({"FAKE_NO_VENV": "1"}, "apt install python3-venv or python3.12-venv"),
        ({"FAKE_FREE_GB": "3"}, "3 GB are free, the environment needs 8 GB"),
    ],
)
def test_what_is_missing_is_told(project, variables, complaint):
    code, said = project.run(**variables)
    assert code == 1
    assert complaint in said
    assert project.calls() == []


def wait_for_pip(project, process):
    while not project.calls_file.exists() or "pip" not in project.calls_file.read_text():
        assert process.poll() is None
        time.sleep(0.02)


def test_two_at_once_install_once(project):
    go = project.root / "go"
    first = project.start(FAKE_WAIT=str(go))
    wait_for_pip(project, first)
    second = project.start()
    assert any("another set-up is at work" in line for line in second.stderr)
    go.touch()
    second.communicate(timeout=60)
    first.communicate(timeout=60)
    assert first.returncode == second.returncode == 0
    assert project.calls() == FULL


def test_interrupted_one_is_repaired(project):
    process = project.start(FAKE_WAIT=str(project.root / "never"))
    wait_for_pip(project, process)
    os.killpg(process.pid, 9)
    process.communicate()
    project.calls()
    assert project.run()[0] == 0
    assert project.calls() == FULL


def test_an_old_bash_is_told(project):
    script = project.root / "egs/utils/setup.sh"
    old = script.read_text().replace("BASH_VERSINFO", "OLD")
    script.write_text(old.replace("set -euo pipefail", "set -euo pipefail; OLD=(3 2)", 1))
    code, said = project.run()
    assert code == 2
    assert "expected 4.4 or newer (on a Mac: brew install bash)" in said
    assert project.calls() == []


def test_unknown_option(project):
    assert project.run("--lnt")[0] == 1


def test_help_needs_nothing(project):
    process = project.start("--help")
    said, _ = process.communicate(timeout=60)
    assert "egs/utils/setup.sh --lint" in said
    assert project.calls() == []
