"""Pictures that are drawn beside a training."""

import os
import signal
import sys
import time

import pytest

from asr.train.drawing import Drawing
from asr.train.folder import RunFolder
from asr.train.loader import NICENESS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork")


def test_only_the_first_pictures_are_drawn_in_the_training(tmp_path):
    drawing, file = Drawing(print), tmp_path / "picture"

    def draw():
        with file.open("a") as opened:
            opened.write(f"{os.getpid()} {os.nice(0)}\n")

    for _ in range(3):
        drawing.start(draw)
    drawing.close()
    first, *others = (line.split() for line in file.read_text().splitlines())
    assert int(first[0]) == os.getpid()
    assert len({process for process, _ in others} - {first[0]}) == 2
    assert {int(nice) for _, nice in others} == {min(19, int(first[1]) + NICENESS)}


def test_the_training_goes_on_meanwhile(tmp_path):
    go, drawn = tmp_path / "go", tmp_path / "drawn"

    def draw():
        until = time.monotonic() + 60  # in this process it would hang for ever
        while not go.exists() and time.monotonic() < until:
            time.sleep(0.01)
        drawn.touch()

    drawing = Drawing(print)
    drawing.start(lambda: None)
    drawing.start(draw)
    assert not drawn.exists()
    go.touch()
    drawing.close()
    assert drawn.exists()


def test_failures_are_reported_once():
    found = []
    drawing = Drawing(found.append)
    drawing.start(lambda: None)
    for _ in range(2):
        drawing.start(lambda: 1 / 0)
    drawing.close()
    assert found == ["warning: a picture cannot be drawn: division by zero"]


def test_a_killed_process_is_not_waited_for():
    drawing = Drawing(print)
    drawing.start(lambda: None)
    drawing.start(lambda: time.sleep(60))
    os.kill(drawing._child[0].pid, signal.SIGKILL)
    drawing.close()


def test_a_drawing_does_not_keep_the_lock_of_a_killed_training(tmp_path):
    """The lock is held until all processes have closed its file."""
    folder = RunFolder(tmp_path)
    folder.make()
    drawing, begun = Drawing(print), tmp_path / "begun"
    drawing.start(lambda: None)
    with folder.lock():
        drawing.start(lambda: (begun.touch(), time.sleep(60)))
        while not begun.exists():  # the process has closed the file by then
            time.sleep(0.02)
    with folder.lock():
        os.kill(drawing._child[0].pid, signal.SIGKILL)
    drawing.close()
