"""The wheel that `python -m build` makes works without the checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SPEECH = REPOSITORY / "data/mini/test-mini/3001/1/3001-1-0000.opus"


def run(arguments, folder, code=0, **environment):
    """Run Python in a folder, and return what it printed; with ``code`` None it may fail."""
    done = subprocess.run(
        [sys.executable, "-P", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert code in (None, done.returncode), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def asr(tmp_path_factory):
    """The command line of the installed wheel; it shares only the dependencies with the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    source, site = folder / "source", folder / "site"
    shutil.copytree(
        REPOSITORY / "asr", source / "asr", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    run(["-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source], folder)
    (wheel,) = folder.glob("*.whl")
    run(["-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel], folder)
    where = run(["-c", "import asr; print(asr.__file__)"], folder, PYTHONPATH=str(site))
    assert Path(where.strip()).is_relative_to(site)
    return lambda *arguments, **options: run(
        ["-m", "asr", *arguments], folder, PYTHONPATH=str(site), **options
    )


def test_models_and_doctor(asr):
    assert "an4 (default)" in asr("models")
    found = asr("doctor", "--json", code=None)  # the machine may lack memory
    topics = {f["topic"]: f["remedy"] for f in json.loads(found)["findings"]}
    assert topics["versions"] == topics["audio"] == ""


def test_transcribe(asr, tmp_path):
    shutil.copy(SPEECH, tmp_path / "a.opus")
    asr("transcribe", tmp_path / "a.opus", "-f", "txt", "-o", tmp_path)
    assert (tmp_path / "a.txt").read_text().strip()


def test_explain(asr, tmp_path):
    asr("explain", SPEECH, "-o", tmp_path / "page.html", "--masks", "2", "--vad", "none")
    assert "<script>" in (tmp_path / "page.html").read_text()


def test_score(asr, tmp_path):
    (tmp_path / "ref").write_text("u1 TURN ON THE LIGHT\n")
    (tmp_path / "hyp").write_text("u1 TURN ON A LIGHT\n")
    assert "25.00" in asr("score", tmp_path / "ref", tmp_path / "hyp")
