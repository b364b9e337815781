"""The compiled library: its owner, its checksum, and a compiler that fails."""

import os
import sys

import pytest
from compilers import needs_compiler

from asr.model.fast import native

COMPILER = """import sys
from pathlib import Path
Path(__file__).with_name("calls").open("a").write("call\\n")
if Path(__file__).with_name("broken").exists():
    sys.exit("error: no header")
Path(sys.argv[-1]).write_bytes(b"a library")
"""


@needs_compiler
def test_the_functions_are_compiled_here():
    assert native.library() is not None


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A command that writes a file and counts its calls."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "compiler.py").write_text(COMPILER)
    return [sys.executable, str(tmp_path / "compiler.py")]


def calls(folder):
    return len((folder / "calls").read_text().splitlines())


def test_a_library_is_compiled_once(compiler, tmp_path):
    assert native._build(compiler) == native._build(compiler)
    assert calls(tmp_path) == 1
    assert (tmp_path / "cache" / "asr").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["cut", "writable", "folder"])
def test_a_damaged_or_writable_library_is_compiled_again(compiler, tmp_path, damage):
    path = native._build(compiler)
    if damage == "cut":
        os.truncate(path, 3)
    else:
        (path if damage == "writable" else path.parent).chmod(0o777)
    assert native._build(compiler).read_bytes() == b"a library"
    assert calls(tmp_path) == 2
    assert not (path.stat().st_mode | path.parent.stat().st_mode) & 0o022


def test_a_compiler_that_fails_is_tried_once(compiler, tmp_path):
    (tmp_path / "broken").touch()
    with pytest.raises(native.subprocess.SubprocessError):
        native._build(compiler)
    (tmp_path / "broken").unlink()
    with pytest.raises(OSError, match=r"no header.*remove .*failed to try again"):
        native._build(compiler)
    assert calls(tmp_path) == 1
    (failure,) = (tmp_path / "cache" / "asr").glob("*.failed")
    failure.unlink()
    assert native._build(compiler).exists()


def test_the_key_distinguishes_processors_of_arm(tmp_path):
    lines = "processor : 0\nBogoMIPS : {}\nFeatures : fp {}\nCPU part : 0xd0c\n"
    found = []
    for bogomips, features in (("50", "sve"), ("60", "sve"), ("50", "asimd")):
        (tmp_path / "cpuinfo").write_text(lines.format(bogomips, features))
        found.append(native._processor(tmp_path / "cpuinfo"))
    assert found[0] == found[1] != found[2] and "0xd0c" in found[0]
