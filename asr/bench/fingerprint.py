"""The numbers of a short training and of a search, to see whether a change of code changes them.

Two models are trained for some steps on fixed noise with every part of the loss, and searched with
every score that needs no file. The numbers are hashed bit for bit: before and after a change that
moves code alone, the hashes are the same on one machine, with the fast loops and, under
``ASR_NATIVE=0``, without them. Another processor or number of threads gives other bits.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch

from asr.bench.shape import Shape
from asr.config import (
    AttentionConfig,
    DecodeConfig,
    DecoderConfig,
    EncoderConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
)
from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.search.beam import search
from asr.train.schedule import make_optimizer

STEPS = 20
SHAPE = Shape(batch=4, frames=200, chars=10)
LOSS = LossConfig(ctc_weight=0.3, consistency=0.2, scheduled_sampling=0.1, guide=0.5)
SEARCH = DecodeConfig(
    beam=4, nbest=2, ctc_weight=0.3, length_bonus=0.5, coverage_weight=0.1, eos_threshold=5.0
)
ATTENTION = AttentionConfig(units=32, filters=4, filter_width=7)
DECODER = DecoderConfig(units=48, embedding=24, dropout=0.1)
PYRAMID = EncoderConfig(units=40, pyramid=(2, 2))
CONVOLUTIONS = EncoderConfig(units=40, pyramid=(1, 2), frontend="conv", frontend_channels=4)
MODELS = {
    "reset after": ModelConfig(PYRAMID, ATTENTION, DECODER),
    "reset before, convolutions": ModelConfig(CONVOLUTIONS, ATTENTION, DECODER, reset="before"),
}


def fingerprint() -> dict[str, Any]:
    """Losses of each model, their hash, and that of the hypotheses."""
    losses, found = {}, []
    for name, config in MODELS.items():
        model = SHAPE.model(config)
        losses[name] = _train(model)
        found += _search(model.eval())
    numbers = [loss for name in MODELS for loss in losses[name]]
    return {"losses": losses, "losses_sha": _hash(numbers), "hypotheses_sha": _hash(found)}


def _train(model: LAS) -> list[float]:
    data, half = SHAPE.data(), SHAPE.batch // 2
    frames, tokens, lengths = (  # consistency compares two copies of each transcript
        torch.cat([value[:half]] * 2) for value in (data.frames, data.tokens, data.lengths)
    )
    batch = Batch(data.features, frames, tokens, lengths)
    optimizer = make_optimizer(list(model.parameters()), OptimConfig())
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(batch, LOSS, batch.count)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.total.item())
    return losses


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
