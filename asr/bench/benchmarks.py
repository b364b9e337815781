"""Benchmarks: each function runs one of them and returns its numbers."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asr.bench import measure, peers
from asr.bench.baseline import Baseline
from asr.bench.shape import FRAMES_PER_SECOND, LOSS, Shape
from asr.config import (
    AugmentConfig,
    BatchConfig,
    DecodeConfig,
    FeatureConfig,
    OptimConfig,
    TrainConfig,
)
from asr.model.las import LAS
from asr.train.schedule import Optimizer, make_optimizer

CPU = torch.device("cpu")
SEARCH = DecodeConfig(ctc_weight=0.0)
NEVER = -1e4  # bias of a character that no search may choose


def _training_step(
    model: nn.Module, loss: Callable[[], Tensor], who: str = "asr"
) -> Callable[[], float]:
    """Forward, backward, clipping and AdamW: this project's, or torch's for the others."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer: Optimizer = make_optimizer(parameters, OptimConfig())
    if who != "asr":
        optimizer = torch.optim.AdamW(parameters, lr=OptimConfig().learning_rate, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return float(value.detach())

    return step


def _contestant(
    who: str, shape: Shape, device: torch.device = CPU, config: TrainConfig | None = None
) -> tuple[nn.Module, Callable[[], Tensor]]:
    if who == "espnet":
        return peers.espnet_step(shape)
    if who == "speechbrain":
        return peers.speechbrain_step(shape)
    model = shape.model(config.model if config else None).to(device)
    data = shape.data(device)
    if who == "baseline":
        baseline = Baseline(model)
        return baseline, lambda: baseline.loss(data)
    weights = config.loss if config else LOSS
    weights = replace(weights, scheduled_sampling=0.0, guide=0.0)
    return model, lambda: model(data, weights, data.count).total


def train(
    shape: Shape,
    repeats: int,
    who: str = "asr",
    device: torch.device = CPU,
    config: TrainConfig | None = None,
) -> dict[str, Any]:
    """A training step of one contestant: seconds, memory, share of the product speed.

    Args:
        shape: sizes.
        repeats: runs of which the median counts.
        who: asr, baseline, espnet or speechbrain.
        device: where; the others know the processor only.
        config: of a training, whose model and loss take the place of the shape's.
    """
    model, loss = _contestant(who, shape, device, config)
    step = _training_step(model, loss, who)
    before = measure.memory_mb(device)
    first = step()
    seconds = measure.seconds_of(step, repeats)
    result = {
        "seconds": seconds,
        "times_real_time": shape.audio_seconds() / seconds,
        "peak_memory_mb": measure.memory_mb(device),
        "step_memory_mb": measure.memory_mb(device) - before,
        "first_loss": first,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if device.type == "cuda":
        result["busy_share"] = measure.busy_share(step)
    if who == "asr" and config is None:
        assert isinstance(model, LAS)
        gflops, speeds = shape.step_gflops(model), measure.product_speeds(device)
        result |= {"gflop": gflops, **speeds}
        result["share_of_torch_products"] = gflops / speeds["torch_gflops"] / seconds
        result["share_of_products"] = gflops / speeds["product_gflops"] / seconds
    return result


def _search_setting(shape: Shape, device: torch.device = CPU) -> tuple[LAS, Tensor, Tensor]:
    """A model that never ends a sentence, and encoder states, all of one length."""
    model = shape.model().to(device).eval()
    with torch.no_grad():
        model.decoder.readout.bias[0] = model.decoder.readout.bias[model.eos] = NEVER
        # random weights say nothing; larger ones prefer some characters, as trained ones do
        model.decoder.readout.weight *= 8
        features = shape.data(device).features
        frames = torch.full((shape.batch,), shape.frames)
        states, steps = model.encoder(features, frames)
    return model, states, steps


def decode(
    shape: Shape, repeats: int, who: str = "asr", device: torch.device = CPU
) -> dict[str, Any]:
    """A beam search without CTC over a whole batch, from encoder states to hypotheses."""
    from asr.model.runtime import TorchModel
    from asr.search.beam import search

    model, states, steps = _search_setting(shape, device)
    runtime = TorchModel(model)
    config = replace(SEARCH, beam=shape.beam)

    def ours() -> list[list[int]]:
        with torch.no_grad():
            memory = model.decoder.precompute(states, steps)
            found = search(runtime, runtime.encoded(memory), config)
            return [list(best[0].tokens) for best in found]

    run: Callable[[], Any] = ours
    if who == "espnet":
        run = peers.espnet_search(shape, model, states, steps)
    elif who == "speechbrain":
        run = peers.speechbrain_search(shape, states, steps)
    before = measure.memory_mb(device)
    found = run()
    seconds = measure.seconds_of(run, repeats, warm_up=1)
    result = {
        "seconds": seconds,
        "characters": int(steps.max()),
        "times_real_time": shape.batch * shape.frames / FRAMES_PER_SECOND / seconds,
        "peak_memory_mb": measure.memory_mb(device),
        "step_memory_mb": measure.memory_mb(device) - before,
    }
    return result | ({} if who == "speechbrain" else {"hypotheses": found})


def features(seconds: float, repeats: int) -> dict[str, Any]:
    """Filterbanks of noise, beside torchaudio's Kaldi-compliance code."""
    from asr.audio.features import FeatureExtractor

    waveform = 0.1 * torch.randn(int(seconds * 16000), generator=torch.Generator().manual_seed(1))
    samples = waveform.numpy()
    ours = FeatureExtractor(FeatureConfig())
    result = {"audio_s": seconds, "seconds": measure.seconds_of(lambda: ours(samples), repeats)}
    result["times_real_time"] = seconds / result["seconds"]
    import torchaudio.compliance.kaldi as kaldi

    theirs = measure.seconds_of(
        lambda: kaldi.fbank(waveform.unsqueeze(0), num_mel_bins=80, dither=0.0, high_freq=0.0),
        repeats,
    )
    return result | {
        "torchaudio_seconds": theirs,
        "times_torchaudio": theirs / result["seconds"],
        "peak_memory_mb": measure.memory_mb(),
    }


def loader(utterances: int, repeats: int) -> dict[str, Any]:
    """Reading, changing and batching wav files for a training, and how long it waits for them."""
    import numpy
    import soundfile

    from asr.audio.cmvn import CmvnStats
    from asr.corpus.datadir import Utterance
    from asr.text.chars import CharTokenizer
    from asr.train.data import UtteranceSet, plan_batches
    from asr.train.loader import load_batches

    chance = numpy.random.default_rng(1)
    shape = Shape()
    step = _training_step(*_contestant("asr", shape))
    with tempfile.TemporaryDirectory() as folder:
        items = []
        for i in range(utterances):
            length = float(chance.uniform(2, 8))
            path = Path(folder) / f"{i:04d}.wav"
            soundfile.write(path, 0.1 * chance.standard_normal(int(16000 * length)), 16000)
            name = path.stem
            items.append(Utterance(name, name, name, str(path), 0.0, None, "A B C", length))
        tokenizer = CharTokenizer.from_texts(["A B C"])
        config = FeatureConfig()
        stats = CmvnStats.zero(config.dim)
        dataset = UtteranceSet(
            items, tokenizer, replace(config, cmvn="none"), stats, {}, AugmentConfig(), 1
        )
        durations = [u.duration_s or 0.0 for u in items]
        plan = plan_batches(durations, BatchConfig(seconds=60), seed=1)

        def load() -> None:
            for _ in load_batches(dataset, plan, workers=0):
                pass

        seconds = measure.seconds_of(load, repeats, warm_up=1)
        waited = trained = 0.0
        step()
        started = time.perf_counter()
        for _ in load_batches(dataset, plan, workers=BatchConfig().workers):
            waited += time.perf_counter() - started
            started = time.perf_counter()
            step()
            trained += time.perf_counter() - started
            started = time.perf_counter()
    return {
        "utterances": utterances,
        "audio_s": sum(durations),
        "seconds": seconds,
        "times_real_time": sum(durations) / seconds,
        "wait_share": waited / (waited + trained),
        "peak_memory_mb": measure.memory_mb(),
    }


def score(pairs: int, repeats: int) -> dict[str, Any]:
    """Word errors of random sentences, beside jiwer."""
    import random

    import jiwer

    from asr.score.wer import score as score_words

    chance = random.Random(1)
    words = [f"W{i}" for i in range(500)]
    references = [" ".join(chance.choices(words, k=20)) for _ in range(pairs)]
    hypotheses = [
        " ".join(chance.choice(words) if chance.random() < 0.2 else w for w in r.split())
        for r in references
    ]
    found = score_words(references, hypotheses)
    result = {
        "pairs": pairs,
        "seconds": measure.seconds_of(lambda: score_words(references, hypotheses), repeats),
    }
    theirs = jiwer.process_words(references, hypotheses)
    if found.words.errors != theirs.substitutions + theirs.deletions + theirs.insertions:
        raise RuntimeError(f"errors: {found.words.errors}, jiwer finds {theirs.wer:.4f}")
    result["jiwer_seconds"] = measure.seconds_of(
        lambda: jiwer.process_words(references, hypotheses), repeats
    )
    result["times_jiwer"] = result["jiwer_seconds"] / result["seconds"]
    return result | {"peak_memory_mb": measure.memory_mb()}
