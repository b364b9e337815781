"""GPU programs equal the plain forms, on a GPU or in Triton's interpreter."""

import copy

import pytest
import torch

from asr.bench.shape import Shape
from asr.config import AttentionConfig, DecoderConfig, LossConfig
from asr.config.layers import Recurrent
from asr.model.decoder import AttentionDecoder
from asr.model.encoder.gru import GRU
from asr.model.fast import native
from asr.model.fast.product import use_precision

kernels = pytest.importorskip("asr.model.fast.kernels")

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
VOCAB, WIDTH = 7, 10
STEPS, LENGTHS = torch.tensor([37, 20, 3]), torch.tensor([4, 6, 1])


@pytest.fixture(autouse=True)
def everything_by_kernels(monkeypatch):
    monkeypatch.setattr(native, "kernels", lambda: kernels)
    monkeypatch.setattr(native, "usable", lambda *_: False)
    monkeypatch.setattr(native, "on_gpu", lambda *tensors: tensors[0].dtype == torch.float32)
    if GPU:
        return
    monkeypatch.setattr(kernels, "resident_programs", lambda device: 1)  # one program after another
    monkeypatch.setattr(kernels, "fits", lambda *_: True)
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        original(tensor, scope)  # numpy 2.4 makes no int of an array of one number
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)


def plain(module):
    """The same module in float64, which no kernel computes."""
    return copy.deepcopy(module).double()


def assert_close(found, expected, tolerance=2e-5):
    """To a share of the largest number."""
    found, expected = found.detach().double().cpu(), expected.detach()
    assert (found - expected).abs().max() <= tolerance * (expected.abs().max() + 1e-3)


def test_bigru_and_its_gradients():
    layer, units = GRU(6, Recurrent(units=40)), 40  # more than a program takes at a time
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    counts = torch.tensor([5, 1, *[2] * 14, 4])  # more than a program takes
    x, direction = torch.randn(17, 5, 6), torch.randn(17, 5, 2 * units)

    def run(module, x, direction):
        x = x.requires_grad_()
        states = module(x, counts)
        return states, torch.autograd.grad(
            (states * direction).sum(), [x, *module.parameters()]
        )  # fmt: skip

    states, gradients = run(layer.to(DEVICE), x.to(DEVICE), direction.to(DEVICE))
    expected, expected_gradients = run(plain(layer).cpu(), x.double(), direction.double())
    assert states.dtype == torch.float32
    assert_close(states, expected)
    for found, right in zip(gradients, expected_gradients, strict=True):
        assert_close(found, right)


def make(reset, units, kind="location"):
    decoder = AttentionDecoder(
        VOCAB,
        WIDTH,
        DecoderConfig(units=units, embedding=6, dropout=0.0),
        AttentionConfig(kind=kind, units=units + 1, filters=3, filter_width=5),
        reset,
    )
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    padding = torch.arange(37) >= STEPS.unsqueeze(1)
    return decoder, torch.randn(3, 37, WIDTH).masked_fill(padding.unsqueeze(-1), 0.0)


@pytest.mark.parametrize(
    ("kind", "reset", "units"),
    [("location", "after", 37), ("location", "before", 20), ("additive", "after", 20),
     ("dot", "after", 37)],
)  # fmt: skip
def test_decoder_loop_and_its_gradients(kind, reset, units):
    decoder, states = make(reset, units, kind)
    tokens = torch.randint(1, VOCAB, (3, 6))
    real = (torch.arange(6) < LENGTHS.unsqueeze(1)).unsqueeze(-1)
    directions = torch.randn(3, 6, VOCAB) * real, torch.randn(3, 6, 37) * real

    def run(decoder, device, dtype):
        inputs = states.to(device, dtype).requires_grad_()
        memory = decoder.precompute(inputs, STEPS)
        logits, weights = decoder(tokens.to(device), LENGTHS, memory)
        by_logits, by_weights = (d.to(device, dtype) for d in directions)
        loss = (logits * by_logits).sum() + (weights * by_weights).sum()
        loss = loss + 0.0 * decoder.cell.c.sum()  # the paper's form has no c
        gradients = torch.autograd.grad(loss, [inputs, *decoder.parameters()])
        return logits * real.to(device), weights, gradients

    logits, weights, gradients = run(decoder.to(DEVICE), DEVICE, torch.float32)
    expected = run(plain(decoder).cpu(), "cpu", torch.float64)
    assert logits.dtype == torch.float32
    assert_close(logits, expected[0])
    assert_close(weights, expected[1])
    for (name, _), found, right in zip(
        [("states", None), *decoder.named_parameters()], gradients, expected[2], strict=True
    ):
        assert (found.cpu() - right).abs().max() < 1e-4 * max(1, right.abs().max()), name


@pytest.mark.skipif(not GPU, reason="only a GPU has to be waited for")
def test_a_training_step_waits_for_nothing():
    shape = Shape(batch=3, frames=40, chars=6, units=16)
    model, data = shape.model().to(DEVICE), shape.data(DEVICE)
    model(data, LossConfig(ctc_weight=0.0), data.count).total.backward()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(data, LossConfig(ctc_weight=0.0), data.count).total.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def search_three(decoder, states, device, dtype):
    """Three steps of a search of two rows for each utterance, which change places."""
    memory = decoder.precompute(states.to(device, dtype), STEPS)
    session = decoder.session(memory, width=2)
    state, found = session.start(), []
    for tokens, origins in (
        ([6, 6, 6, 6, 6, 6], [0, 1, 2, 3, 4, 5]),
        ([1, 2, 3, 4, 5, 1], [1, 0, 2, 2, 5, 4]),
        ([2, 2, 1, 3, 4, 6], [0, 0, 3, 2, 4, 4]),
    ):
        last, rows = torch.tensor([tokens, origins], dtype=torch.int32, device=device)
        log_probs, alignment, state = session.step(last, state, rows)
        found.append(log_probs)
    return torch.stack(found), state.cell[0], alignment.weights[:, 0]


@pytest.mark.parametrize(
    ("kind", "reset"),
    [("location", "after"), ("location", "before"), ("additive", "after"), ("dot", "before")],
)
def test_steps_of_a_search(kind, reset):
    decoder, states = make(reset, 20, kind)
    decoder.eval()
    found = search_three(decoder.to(DEVICE), states, DEVICE, torch.float32)
    expected = search_three(plain(decoder).cpu(), states, "cpu", torch.float64)
    assert found[0].dtype == torch.float32
    for ours, right in zip(found, expected, strict=True):
        assert_close(ours, right)
    assert (found[2].cpu()[4:, 3:] == 0).all()  # padding of the third utterance


def test_bfloat16_is_near():
    """Products read 8 bits of mantissa: a percent of the largest number."""
    decoder, states = make("after", 20)
    decoder.eval()
    use_precision("bfloat16")
    try:
        found = search_three(decoder.to(DEVICE), states, DEVICE, torch.float32)
    finally:
        use_precision("float32")
    expected = search_three(plain(decoder).cpu(), states, "cpu", torch.float64)
    for ours, right in zip(found, expected, strict=True):
        assert_close(ours, right, tolerance=0.05)


@pytest.mark.skipif(not GPU, reason="programs that wait for each other need a GPU")
@pytest.mark.parametrize("batch", [1, 40])
def test_programs_that_share_a_layer_agree(batch):
    layer = GRU(20, Recurrent(units=300)).to(DEVICE)
    x, counts = torch.randn(batch, 60, 20), torch.randint(1, 61, (batch,))
    counts[0] = 60
    states = layer(x.to(DEVICE), counts)
    states.sum().backward()
    reference = plain(layer).cpu()
    expected = reference(x.double(), counts)
    expected.sum().backward()
    assert_close(states, expected)
    assert_close(layer.U.grad, reference.U.grad, 1e-4)
    assert_close(layer.W.grad, reference.W.grad, 1e-4)
