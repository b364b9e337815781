"""A folder that looks like a recipe, and a way to run bash in it."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
UTILS = REPOSITORY / "egs" / "utils"

sys.path.insert(0, str(UTILS))

Bash = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """An empty recipe that shares the project's utils."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "utils").symlink_to(UTILS)
    return folder


@pytest.fixture
def bash(recipe: Path) -> Bash:
    """Write ``run.sh`` into the recipe and run it with some arguments."""

    def run(script: str, *arguments: str, cwd: Path = recipe) -> subprocess.CompletedProcess[str]:
        path = recipe / "run.sh"
        path.write_text(script)
        python = str(Path(sys.executable).parent)
        return subprocess.run(
            ["bash", str(path), *arguments],
            cwd=cwd,
            env={**os.environ, "PATH": f"{python}:{os.environ['PATH']}", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A copy of egs/ that takes Python and asr as they are here, and makes no environment."""
    ignored = shutil.ignore_patterns("data", "exp", "downloads", "__pycache__")
    egs = tmp_path / "work" / "egs"
    shutil.copytree(REPOSITORY / "egs", egs, symlinks=True, ignore=ignored)
    (egs / "utils/setup.sh").write_text("#!/usr/bin/env bash\n")
    programs = egs.parent / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" "$@"\n')
    (programs / "asr").write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" -m asr "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    return egs


@pytest.fixture
def load_script() -> Callable[[str], ModuleType]:
    """Import a script below egs/; several recipes have one of the same name."""

    def load(path: str) -> ModuleType:
        name = path.removesuffix(".py").replace("/", "_")
        spec = importlib.util.spec_from_file_location(name, REPOSITORY / "egs" / path)
        assert spec and spec.loader
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
