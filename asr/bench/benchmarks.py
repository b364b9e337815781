"""Benchmarks: each function runs one and returns its numbers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from asr.audio.features import FeatureExtractor
from asr.bench import measure, peers
from asr.bench.baseline import Baseline
from asr.bench.shape import FRAMES_PER_SECOND, LOSS, Shape
from asr.config import DecodeConfig, FeatureConfig, TrainConfig
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.search.beam import search

CPU = torch.device("cpu")
SEARCH = DecodeConfig(ctc_weight=0.0)
NEVER = -1e4  # bias of a character that a search must not choose


def _model_and_loss(
    toolkit: str, shape: Shape, device: torch.device = CPU, config: TrainConfig | None = None
) -> tuple[nn.Module, Callable[[], Tensor]]:
    if toolkit == "espnet":
        return peers.espnet_step(shape)
    if toolkit == "speechbrain":
        return peers.speechbrain_step(shape)
    model = shape.model(config.model if config else None).to(device)
    data = shape.data(device)
    if toolkit == "baseline":
        baseline = Baseline(model)
        return baseline, lambda: baseline.loss(data)
    weights = config.loss if config else LOSS
    weights = replace(weights, guide=0.0)
    return model, lambda: model(data, weights, data.count).total


def train(
    shape: Shape,
    repeats: int,
    toolkit: str = "asr",
    device: torch.device = CPU,
    config: TrainConfig | None = None,
) -> dict[str, Any]:
    """Measure a training step: seconds, memory, and matrix products as a share of their top speed.

    Args:
        shape: sizes of the batch and the model.
        repeats: number of steps, of which the median counts.
        toolkit: asr, baseline, espnet or speechbrain.
        device: the device; only asr supports others than the processor.
        config: settings of a training, whose model and loss replace those of the shape.
    """
    model, loss = _model_and_loss(toolkit, shape, device, config)
    step = measure.training_step(model, loss, toolkit)
    before = measure.memory_mb(device)
    first = step()
    seconds, processor = measure.times_of(step, repeats)
    result = {
        "seconds": seconds,
        "processor_seconds": processor,
        "times_real_time": shape.audio_seconds() / seconds,
        "peak_memory_mb": measure.memory_mb(device),
        "step_memory_mb": measure.memory_mb(device) - before,
        "first_loss": first,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if device.type == "cuda":
        result["busy_share"] = measure.busy_share(step)
    if toolkit == "asr" and config is None:
        assert isinstance(model, LAS)
        gflops, speeds = shape.step_gflops(model), measure.product_speeds(device)
        result |= {"gflop": gflops, **speeds}
        result["share_of_torch_products"] = gflops / speeds["torch_gflops"] / seconds
        result["share_of_products"] = gflops / speeds["product_gflops"] / seconds
    return result


def _search_setting(shape: Shape, device: torch.device = CPU) -> tuple[LAS, Tensor, Tensor]:
    """Return a model that never predicts <eos>, and encoder states of one length."""
    model = shape.model().to(device).eval()
    with torch.no_grad():
        model.decoder.readout.bias[0] = model.decoder.readout.bias[model.eos] = NEVER
        # larger weights give unequal probabilities, as those of a trained model are
        model.decoder.readout.weight *= 8
        features = shape.data(device).features
        frames = torch.full((shape.batch,), shape.frames)
        states, steps = model.encoder(features, frames)
    return model, states, steps


def decode(
    shape: Shape, repeats: int, toolkit: str = "asr", device: torch.device = CPU
) -> dict[str, Any]:
    """Measure a beam search without CTC over a batch, from encoder states to hypotheses."""
    model, states, steps = _search_setting(shape, device)
    runtime = TorchModel(model)
    config = replace(SEARCH, beam=shape.beam)

    def ours() -> list[list[int]]:
        with torch.no_grad():
            memory = model.decoder.precompute(states, steps)
            found = search(runtime, runtime.encoded(memory), config)
            return [list(best[0].tokens) for best in found]

    run: Callable[[], Any] = ours
    if toolkit == "espnet":
        run = peers.espnet_search(shape, model, states, steps)
    elif toolkit == "speechbrain":
        run = peers.speechbrain_search(shape, states, steps)
    before = measure.memory_mb(device)
    found = run()
    seconds = measure.times_of(run, repeats, warm_up=1).wall
    result = {
        "seconds": seconds,
        "characters": int(steps.max()),
        "times_real_time": shape.batch * shape.frames / FRAMES_PER_SECOND / seconds,
        "peak_memory_mb": measure.memory_mb(device),
        "step_memory_mb": measure.memory_mb(device) - before,
    }
    return result | ({} if toolkit == "speechbrain" else {"hypotheses": found})


def features(seconds: float, repeats: int) -> dict[str, Any]:
    """Measure filterbanks of noise, and torchaudio's Kaldi-compliance code."""
    import torchaudio.compliance.kaldi as kaldi

    waveform = 0.1 * torch.randn(int(seconds * 16000), generator=torch.Generator().manual_seed(1))
    samples, ours = waveform.numpy(), FeatureExtractor(FeatureConfig())
    options = {"num_mel_bins": 80, "dither": 0.0, "high_freq": 0.0}
    taken = measure.times_of(lambda: ours(samples), repeats).wall
    theirs = measure.times_of(lambda: kaldi.fbank(waveform[None], **options), repeats).wall
    return {
        "audio_s": seconds,
        "seconds": taken,
        "times_real_time": seconds / taken,
        "torchaudio_seconds": theirs,
        "times_torchaudio": theirs / taken,
        "peak_memory_mb": measure.memory_mb(),
    }
