"""Hashes of the numbers of a short training and a search, which show whether code changed them.

Two models are trained for some steps on fixed noise with every part of the loss, and decoded with
every score that needs no file. On one machine with one number of threads, hashes are equal if the
numbers are equal bit for bit. ``ASR_NATIVE=0`` gives the hashes of plain torch.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch

from asr.bench.measure import training_step
from asr.bench.shape import Shape
from asr.config import (
    AttentionConfig,
    DecodeConfig,
    DecoderConfig,
    EncoderConfig,
    LossConfig,
    ModelConfig,
)
from asr.config.layers import Convolutions, Recurrent
from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.search.beam import search

STEPS = 20
SHAPE = Shape(batch=4, frames=200, chars=10)
LOSS = LossConfig(ctc_weight=0.3, consistency=0.2, guide=0.5)
SEARCH = DecodeConfig(
    beam=4, nbest=2, ctc_weight=0.3, length_bonus=0.5, coverage_weight=0.1, eos_threshold=5.0
)
ATTENTION = AttentionConfig(units=32, filters=4, filter_width=7)
DECODER = DecoderConfig(units=48, embedding=24, dropout=0.1)
PYRAMID = EncoderConfig(units=40, pyramid=(2, 2))
CONVOLUTIONS = EncoderConfig(
    layers=(Convolutions(channels=4), Recurrent(units=40), Recurrent(reduction=2, units=40))
)
MODELS = {
    "reset after": ModelConfig(PYRAMID, ATTENTION, DECODER),
    "reset before, convolutions": ModelConfig(CONVOLUTIONS, ATTENTION, DECODER, reset="before"),
}


def fingerprint() -> dict[str, Any]:
    """Return the losses of each model, their hash, and the hash of the hypotheses."""
    losses, found = {}, []
    for name, config in MODELS.items():
        model = SHAPE.model(config)
        losses[name] = _train(model)
        found += _search(model.eval())
    numbers = [loss for name in MODELS for loss in losses[name]]
    return {"losses": losses, "losses_sha": _hash(numbers), "hypotheses_sha": _hash(found)}


def _train(model: LAS) -> list[float]:
    data, half = SHAPE.data(), SHAPE.batch // 2
    frames, tokens, lengths = (  # the consistency loss needs two copies of each transcript
        torch.cat([value[:half]] * 2) for value in (data.frames, data.tokens, data.lengths)
    )
    batch = Batch(data.features, frames, tokens, lengths)
    step = training_step(model, lambda: model(batch, LOSS, batch.count).total)
    return [step() for _ in range(STEPS)]


@torch.no_grad()
def _search(model: LAS) -> list[float]:
    data, runtime = SHAPE.data(), TorchModel(model)
    numbers: list[float] = []
    for config in (SEARCH, DecodeConfig(beam=1, ctc_weight=0.0)):
        encoded = runtime.encoded(model.encode(data.features, data.frames))
        for hypotheses in search(runtime, encoded, config):
            for each in hypotheses:
                numbers += [*each.tokens, each.score, *each.log_probs, each.scores.get("ctc", 0.0)]
                numbers += each.attention.flatten().tolist()
    return numbers


def _hash(numbers: Iterable[float]) -> str:
    text = " ".join(float(number).hex() for number in numbers)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
