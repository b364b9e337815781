"""Writing files: existing targets, inputs as targets, and unusual names."""

import os
import stat
import threading
from pathlib import Path

import pytest

from asr.errors import InputError
from asr.files import (
    beside,
    check_folder,
    check_outputs,
    fitting_name,
    locked,
    write_atomically,
    write_text,
)


def test_a_failed_write_leaves_the_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="free some space"):
        write_atomically(tmp_path / "a", fail)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old"}


def test_links_stay_links(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "real").write_text("old")
    (tmp_path / "link").symlink_to("other/real")
    (tmp_path / "dangling").symlink_to("other/made")
    write_text(tmp_path / "link", "new")
    write_text(tmp_path / "dangling", "made")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "other" / "real").read_text() == "new"
    assert (tmp_path / "other" / "made").read_text() == "made"


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(InputError, match="cannot write"):
        write_text(tmp_path / "a", "new")


def test_a_pipe_gets_the_content_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "new")
    reader.join()
    assert got == ["new"]
    assert (tmp_path / "pipe").is_fifo()


def test_an_open_descriptor_is_written_to_at_its_position(tmp_path):
    with open(tmp_path / "log", "w") as file:
        file.write("before\n")
        file.flush()
        write_text(f"/dev/fd/{file.fileno()}", "result\n")
        file.seek(0, os.SEEK_END)
        file.write("after\n")
    assert (tmp_path / "log").read_text() == "before\nresult\nafter\n"


def test_the_mode_of_a_file_is_kept_and_that_of_a_new_one_follows_the_umask(tmp_path):
    (tmp_path / "private").write_text("old")
    (tmp_path / "private").chmod(0o600)
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "private", "new")
        write_text(tmp_path / "fresh", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640


def test_threads_that_write_the_same_file_each_write_all_of_it(tmp_path):
    texts = [letter * 100_000 for letter in "abcd"]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "a", t)) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_text() in texts
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_the_longest_name_that_a_file_can_have(tmp_path):
    name = "n" * 255
    assert write_text(tmp_path / name, "text").read_text() == "text"
    with pytest.raises(InputError, match="choose a shorter name"):
        write_text(tmp_path / f"{name}n", "text")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"])
def test_impossible_names(tmp_path, name):
    with pytest.raises(InputError):
        write_text(tmp_path / name, "text")
    with pytest.raises(InputError):
        check_outputs([tmp_path / name])


def test_an_interruption_leaves_no_temporary_file(tmp_path, monkeypatch):
    def opened(*arguments):
        os_open(*arguments)
        raise KeyboardInterrupt  # a signal right after the file is created

    os_open = os.open
    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a", "text")
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_refused_as_outputs_under_any_name(tmp_path):
    (tmp_path / "a").write_text("input")
    (tmp_path / "link").symlink_to("a")
    for target in (tmp_path / "a", tmp_path / "link", tmp_path / "x" / ".." / "a"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="is also read"):
            check_outputs([target], [None, "", tmp_path / "a"])
    with pytest.raises(InputError, match="is also read"):
        check_outputs([tmp_path / "new" / ".." / "a"], [tmp_path / "a"])  # creates new
    check_outputs([tmp_path / "b"], [tmp_path / "a"])


def test_tables_of_data_directories_are_refused_as_outputs(tmp_path):
    for name in ("text", "wav.scp", "utt2spk"):
        (tmp_path / name).write_text("u x\n")
    for name in ("text", "wav.scp", "utt2spk"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(name)
        for target in (name, "new/../" + name, "link"):
            with pytest.raises(InputError, match="data directory"):
                check_outputs([tmp_path / target])
    check_outputs([tmp_path / "words.ctm", tmp_path / "utt2lang"])  # other names and new tables


def test_recordings_are_refused_as_outputs(tmp_path):
    for name in ("a.wav", "a.FLAC", "a.mp3", "a.m4a", "a.opus"):
        check_outputs([tmp_path / name])  # no recording yet
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match="a recording, which is not replaced"):
            check_outputs([tmp_path / name])


def test_outputs_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path, tmp_path / "file" / "a", tmp_path / ("n" * 300)):
        with pytest.raises(InputError):
            check_outputs([target])
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    for folder in (tmp_path / "file", tmp_path / "loop", tmp_path / "dangling", ""):
        with pytest.raises(InputError):
            check_folder(folder)
    check_outputs([tmp_path / "new" / "folder" / "a", "/dev/null", "/dev/stdout"])
    check_folder(tmp_path / "new" / "folder")


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout"])
def test_nothing_is_written_beside_a_device(path):
    with pytest.raises(InputError, match=rf"{path}: not a file, beside which \.json could"):
        beside(Path(path), ".json")


def test_a_folder_is_locked_once(tmp_path):
    again = pytest.raises(InputError, match="another process is writing")
    with locked(tmp_path), again, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_names_that_are_too_long_are_cut_and_remain_unique():
    assert fitting_name("a", ".txt", 255) == "a.txt"
    first, second = (fitting_name("語" * 100 + end, ".txt", 255) for end in "ab")
    assert first != second
    assert first.startswith("語" * 79)
    assert first.endswith(".txt")
    assert len(first.encode()) <= 255
    assert first == fitting_name("語" * 100 + "a", ".txt", 255)
