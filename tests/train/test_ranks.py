"""Several processes, accumulation and halves compute the gradient of one process and batch."""

import json
from dataclasses import replace

import pytest
import torch

from asr.config import TrainConfig
from asr.config.read import from_dict, to_dict
from asr.errors import InputError
from asr.model.batch import Count
from asr.train.loop import Training
from asr.train.plan import cut_batch
from asr.train.step import weights_at


def plain(config: TrainConfig, **changes) -> TrainConfig:
    """Return the settings without random numbers that depend on the shares."""
    values = to_dict(config)
    values["model"]["encoder"]["dropout"] = values["model"]["decoder"]["dropout"] = 0.0
    values["loss"]["scheduled_sampling"] = 0.0
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (values[section] if section else values)[key] = value
    return from_dict(TrainConfig, values)


def start(config, corpus, out, rank=None):
    paths = (str(corpus / name) for name in ("train", "dev", "tokens.txt"))
    return Training(config, *paths, out, rank=rank)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_shares_partition_a_batch(count):
    durations = [1.0, 1.2, 5.0, 1.1, 1.3]
    keys = [(0, index) for index in range(5)]
    shares = cut_batch(keys, durations, count)
    assert len(shares) == count and sorted(key for share in shares for key in share) == keys
    sizes = [len(share) * max((durations[i] for _, i in share), default=0) for share in shares]
    assert max(sizes) == {1: 25.0, 2: pytest.approx(5.2)}.get(count, 5.0)


def local(training, shares):
    """Return the losses and gradients of shares."""
    count = Count(*map(sum, zip(*(batch.count for batch in shares), strict=True)))
    weights = weights_at(training.config.loss, 0)
    losses = training.step.local_gradient(shares, count, weights, 5)
    gradients = [p.grad.clone() for p in training.model.parameters()]
    training.optimizer.zero_grad()
    return [float(loss) for loss in losses], gradients


def assert_same_step(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    for ours, theirs in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_an_accumulated_batch_has_the_gradient_of_the_whole(tone_corpus, tiny_training, tmp_path):
    """Three shares and an empty one; each utterance has two copies."""
    whole = start(plain(tiny_training), tone_corpus, tmp_path / "las")
    keys = [(0, index) for index in range(6)]
    parts = cut_batch(keys, whole.data.train.durations_s, 3)
    read = whole.data.train.batch
    assert_same_step(local(whole, [read(keys)]), local(whole, [*map(read, parts), read([])]))


def lack_memory(training, monkeypatch, most):
    """Let memory run out for batches of more than some rows, after a part of the backward pass."""
    forward = training.model.forward

    def fail(batch, *args):
        loss = forward(batch, *args)
        if len(batch.ids) > most:
            loss.attention.backward(retain_graph=True)
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss

    monkeypatch.setattr(training.model, "forward", fail)


def test_a_batch_without_memory_is_halved(tone_corpus, tiny_training, tmp_path, monkeypatch):
    config = plain(tiny_training, batch__halve=True)
    training = start(config, tone_corpus, tmp_path / "las")
    said = []
    training.step.say = said.append
    shares = [training.data.train.batch([(0, i) for i in keys]) for keys in ((0, 1), range(2, 7))]
    expected = local(training, shares)
    lack_memory(training, monkeypatch, 4)
    assert_same_step(local(training, shares), expected)
    assert len(said) == 2 and "5 utterances" in said[0] and "3 utterances" in said[1]


def test_a_batch_without_memory_is_named(tone_corpus, tiny_training, tmp_path, monkeypatch):
    training = start(tiny_training, tone_corpus, tmp_path / "las")
    lack_memory(training, monkeypatch, 2)
    with pytest.raises(InputError) as error:
        training.run()
    assert "the largest batch: " in str(error.value) and "batch.halve" in str(error.value)
    assert "s1-04 (87 frames, 3 characters), s1-03 (" in str(error.value)


def test_an_utterance_without_memory_is_named(tone_corpus, tiny_training, tmp_path, monkeypatch):
    training = start(plain(tiny_training, batch__halve=True), tone_corpus, tmp_path / "las")
    lack_memory(training, monkeypatch, 1)
    with pytest.raises(InputError, match="the largest batch: 1 utterances"):
        training.run()
    with pytest.raises(RuntimeError, match="illegal memory access"):
        monkeypatch.setattr(training.model, "forward", illegal)
        training.run()


def illegal(*_):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def losses(out):
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [e["loss"] for e in lines if e["kind"] == "step"]


def test_accumulation_equals_the_larger_batch(tone_corpus, tiny_training, tmp_path):
    config = plain(tiny_training, epochs=1, batch__workers=1)
    start(config, tone_corpus, tmp_path / "whole").run()
    config = replace(config, batch=replace(config.batch, accumulate=3))
    start(config, tone_corpus, tmp_path / "parts").run()
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
