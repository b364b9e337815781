import os
from pathlib import Path

import pytest

from asr.audio.folders import search


@pytest.fixture
def tree(tmp_path):
    """Write empty files below a folder ``top`` and return it."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "top"

    return make


def audio(top, **options):
    return [str(path.relative_to(top)) for path in search(top, **options).audio]


def test_every_extension_counts_in_any_case(tree):
    top = tree("top/a.wav", "top/b.AIFF", "top/c/d.m4a", "top/e.oga", "top/notes.txt")
    assert audio(top) == ["a.wav", "b.AIFF", "c/d.m4a", "e.oga"]
    assert audio(top, recursive=False) == ["a.wav", "b.AIFF", "e.oga"]
    assert search(top, recursive=False).left_out(1) == "1 other file, 1 subfolder"


def test_hidden_files_are_counted(tree):
    top = tree("top/a.wav", "top/._a.wav", "top/.DS_Store", "top/__MACOSX/b.wav", "top/.git/x/y")
    assert audio(top) == ["a.wav"]
    assert search(top).left_out() == "4 hidden files"
    assert audio(tree("top/.hidden/c.wav") / ".hidden") == ["c.wav"]


def test_links_are_followed_once(tree):
    top = tree("top/a.wav", "other/b.wav", "other/deep/c.wav", "top/z/d.wav")
    (top / "linked").symlink_to(top.parent / "other")
    (top.parent / "other" / "round").symlink_to(top)
    (top / "again").symlink_to(top / "z")  # what is there itself keeps its name
    (top / "e.wav").symlink_to(top.parent / "other" / "b.wav")
    assert audio(top) == ["a.wav", "e.wav", "linked/b.wav", "linked/deep/c.wav", "z/d.wav"]


def test_unreadable_files_are_named(tree):
    top = tree("top/a.wav")
    (top / "gone.wav").symlink_to(top / "nowhere")
    os.mkfifo(top / "pipe.wav")
    assert audio(top) == ["a.wav"]
    told = search(top).left_out()
    assert told == f"{top}/gone.wav, {top}/pipe.wav (cannot be read)"
