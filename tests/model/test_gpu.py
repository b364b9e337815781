"""The plain forms on fake tensors of a GPU: devices are right, and nothing waits for the GPU.

torch's fake tensors have shapes and a device, but no numbers; to ask for a number of one, which
would make the processor wait for the GPU, is an error. Counts are tensors in main memory, whose
numbers are known. test_kernels.py checks the numbers of the kernels.
"""

import pytest
import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from asr.config import AttentionConfig, DecoderConfig, EncoderConfig, LossConfig, ModelConfig
from asr.config.layers import Convolutions, Recurrent
from asr.model.batch import Batch
from asr.model.fast import native
from asr.model.las import LAS

MEL, VOCAB = 6, 7
NO_CTC = LossConfig(ctc_weight=0.0, guide=1.0)  # torch's own CTC loss cannot be pretended


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that is not there; the numbers of tensors in main memory are known up to 16."""
    monkeypatch.setattr(fake_tensor, "CONSTANT_NUMEL_LIMIT", 16)
    monkeypatch.setattr(native, "on_gpu", lambda *_: False)
    with FakeTensorMode():
        yield torch.device("cuda")


PYRAMID = (Recurrent(reduction=2, units=8), Recurrent(reduction=2, units=8))


def make_model(device, front=()):
    config = ModelConfig(
        encoder=EncoderConfig(layers=(*front, *PYRAMID)),
        attention=AttentionConfig(units=5, filters=2, filter_width=3),
        decoder=DecoderConfig(units=8, embedding=4),
        reset="before",  # the loop of this project; cuDNN's kernel has the other form
    )
    with device:
        return LAS(config, MEL, VOCAB)


def batch(device):
    features = torch.randn(3, 41, MEL, device=device)
    tokens = torch.randint(1, VOCAB - 1, (3, 5), device=device)
    return Batch(features, torch.tensor([41, 26, 9]), tokens, torch.tensor([5, 3, 1]))


def test_reading_a_number_is_an_error(gpu):
    with pytest.raises(DataDependentOutputException):
        float(torch.ones(3, device=gpu).sum())


@pytest.mark.parametrize("front", [(), (Convolutions(channels=3),)], ids=["pyramid", "conv2d"])
def test_a_training_step_waits_for_nothing(gpu, front):
    model = make_model(gpu, front)
    data = batch(gpu)
    loss = model(data, NO_CTC, data.count)
    assert loss.total.device.type == loss.weights.device.type == "cuda"


def test_backward_waits_for_nothing():
    """torch cannot pretend this on a GPU; meta tensors have no numbers to wait for either."""
    model = make_model(torch.device("meta"))
    data = batch("meta")
    model(data, NO_CTC, data.count).total.backward()
    ends = (model.encoder.layers[0].W, model.decoder.embedding.weight, model.decoder.readout.bias)
    assert all(p.grad is not None and p.grad.shape == p.shape for p in ends)


def test_a_step_of_a_search_waits_for_nothing(gpu):
    model = make_model(gpu).eval()
    data = batch(gpu)
    with torch.no_grad():
        memory = model.encode(data.features, data.frames)
        session = model.decoder.session(memory, width=2)
        state, last = session.start(), torch.full((6,), model.eos, dtype=torch.int32, device=gpu)
        rows = torch.arange(6, dtype=torch.int32, device=gpu)
        log_probs, alignment, _ = session.step(last, state, rows)
        session.bind(memory.select([0, 2]))
        assert session.memory.steps.tolist() == [11, 3]
    assert log_probs.device.type == alignment.weights.device.type == "cuda"
