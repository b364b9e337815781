"""Workers read batches ahead: order, errors, and processes and files that remain."""

import multiprocessing
import os
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from asr.config import AugmentConfig, FeatureConfig
from asr.corpus.datadir import Utterance
from asr.errors import InputError
from asr.text.tokenizer import CharTokenizer
from asr.train import loader, utterances
from asr.train.loader import load_batches
from asr.train.utterances import UtteranceSet

PLAN = [[(0, i)] for i in range(12)]
FEATURES = FeatureConfig(mel_bins=20, cmvn="none")


@pytest.fixture
def dataset(tmp_path):
    """Twelve utterances of noise, with augmentation."""
    utterances = []
    for i in range(12):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, (0.1 * torch.randn(4000 + 160 * i)).numpy(), 16000)
        name = f"u{i:02d}"
        utterances.append(Utterance(name, name, name, str(path), 0.0, None, "A", 0.25))
    augment = AugmentConfig(vtln=0.1, freq_width=8, time_width=10)
    return UtteranceSet(
        utterances, CharTokenizer.from_texts(["A"]), FEATURES, None, {}, augment, 1, 2
    )


def open_files():
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0


@pytest.mark.parametrize("workers", [1, 2, 5, 20])
def test_the_same_batches_in_the_same_order(dataset, workers):
    before = open_files()
    loaded = load_batches(dataset, PLAN, workers=workers)
    for here, there in zip(load_batches(dataset, PLAN), loaded, strict=True):
        assert here.ids == there.ids and here.audio_s == there.audio_s
        assert here.features.equal(there.features) and here.tokens.equal(there.tokens)
        assert here.frames.equal(there.frames) and here.lengths.equal(there.lengths)
    assert not multiprocessing.active_children()
    assert open_files() == before


@pytest.mark.parametrize("workers", [1, 5])
def test_a_plan_without_a_length(dataset, workers):
    class Plan:
        def __iter__(self):
            return iter(PLAN[:7])

    loaded = load_batches(dataset, Plan(), workers=workers)
    assert [batch.ids[0] for batch in loaded] == [f"u{i:02d}" for i in range(7)]
    assert not multiprocessing.active_children()


def test_a_small_training_set_is_decoded_once(dataset, monkeypatch):
    first = [dataset.batch(keys).features for keys in PLAN]
    monkeypatch.setattr(utterances, "read", None)
    for keys, features in zip(PLAN, first, strict=True):
        assert dataset.batch(keys).features.equal(features)
    monkeypatch.setattr(utterances, "KEPT_BYTES", 1000)
    large = UtteranceSet(dataset.utterances, dataset.tokenizer, FEATURES, None, {}, dataset.augment)
    with pytest.raises(InputError, match="NoneType"):
        large.batch(PLAN[0])


def test_a_command_is_run_in_every_pass(dataset, tmp_path):
    log, first = tmp_path / "log", dataset.utterances[0]
    dataset.utterances[0] = replace(first, wav=f"echo run >> {log}; cat {first.wav} |")
    for number in range(3):
        dataset.batch([(number, 0)])
    assert log.read_text() == "run\n" * 3


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_no_process_and_no_file_remains_after_an_early_close(dataset, taken):
    before = open_files()
    with closing(load_batches(dataset, PLAN, workers=2)) as loaded:
        for _ in range(taken):
            next(loaded)
    assert not multiprocessing.active_children()
    assert open_files() == before


def test_a_killed_worker_is_reported(dataset):
    with closing(load_batches(dataset, PLAN, workers=2)) as loaded:
        assert next(loaded).ids[0] == "u00"
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(InputError, match=r"has ended \(exit code -9\).*batch.workers"):
            list(loaded)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unexpected_error_names_its_utterance(dataset, monkeypatch, workers):
    read = utterances.read

    def fail(clip, **options):
        if str(clip.source).endswith("/3.wav"):
            raise ZeroDivisionError("no such number")
        return read(clip, **options)

    monkeypatch.setattr(utterances, "read", fail)
    loaded = load_batches(dataset, PLAN, workers=workers)
    assert [next(loaded).ids[0] for _ in range(3)] == ["u00", "u01", "u02"]
    with pytest.raises(InputError, match="u03: ZeroDivisionError: no such number"):
        next(loaded)
    assert not multiprocessing.active_children()


def test_missing_audio_is_left_out_and_reported(dataset):
    Path(dataset.utterances[2].wav).unlink()
    loaded = list(load_batches(dataset, PLAN, workers=2))
    assert [b.ids[:1] for b in loaded[1:4]] == [("u01",), (), ("u03",)]
    assert loaded[2].errors[0].startswith("u02: ")


@pytest.mark.parametrize("name", ["write", "send"])
def test_a_batch_that_cannot_be_sent_is_an_error(dataset, monkeypatch, name):
    """A full disk or too many open files at one of many loader."""
    pack, send = loader._pack, loader.socket.send_fds

    def pack_or_fail(found):
        if not isinstance(found, str) and found.ids[0] == "u02":
            raise OSError(28, "No space left on device")
        return pack(found)

    sent = []

    def send_or_fail(*arguments):
        sent.append(arguments)
        if len(sent) == 2:
            raise OSError(109, "Too many references")
        return send(*arguments)

    if name == "write":
        monkeypatch.setattr(loader, "_pack", pack_or_fail)
    else:
        monkeypatch.setattr(loader.socket, "send_fds", send_or_fail)
    loaded = load_batches(dataset, PLAN, workers=2)
    assert [next(loaded).ids[0] for _ in range(2)] == ["u00", "u01"]
    expected = "No space left" if name == "write" else "has ended"
    with pytest.raises(InputError, match=expected):
        next(loaded)


def test_a_system_without_files_in_memory(dataset, monkeypatch):
    def refuse(name):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    assert len(list(load_batches(dataset, PLAN, workers=2))) == 12


def test_a_system_that_starts_no_process(dataset, monkeypatch):
    def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(InputError, match=r"lower batch\.workers"):
        next(load_batches(dataset, PLAN, workers=2))


def test_commands_of_a_worker_end_with_it(dataset, tmp_path):
    """A command that is not killed would write "ended" after 30 s."""
    os.mkfifo(tmp_path / "pipe")
    command = f"exec 9>{tmp_path / 'pipe'}; echo begun >&9; sleep 30; echo ended >&9 |"
    dataset.utterances = [replace(u, wav=command) for u in dataset.utterances]
    with loader._workers(dataset, PLAN, 1):
        pipe = (tmp_path / "pipe").open()
        assert pipe.readline() == "begun\n"
    with pipe:
        assert pipe.read() == ""
