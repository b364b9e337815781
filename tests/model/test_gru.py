"""Every way to compute the recurrence equals the equations, and torch's own GRU."""

import math

import pytest
import torch
from compilers import needs_compiler

from asr.config.layers import Recurrent
from asr.model.cells.gru import gru_step
from asr.model.encoder.gru import GRU
from asr.model.fast.layer import cudnn_layer
from asr.model.fast.product import use_precision
from asr.model.padding import pack, unpack

COUNTS = torch.tensor([7, 4, 1])
FORMS = pytest.mark.parametrize("reset", ["after", "before"])


DIRECTIONS = pytest.mark.parametrize("directions", [1, 2])


def layer_and_input(reset="after", inputs=5, units=4, dtype=torch.float64, directions=2):
    layer = GRU(inputs, Recurrent(units=units, directions=directions), reset).to(dtype)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer, torch.randn(3, 7, inputs, dtype=dtype, requires_grad=True)


def gradients(states, layer, x):
    direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    loss = (states * direction).sum() + 0.0 * layer.c.sum()  # the paper's form has no c
    return torch.autograd.grad(loss, [x, *layer.parameters()])


@pytest.mark.parametrize(("reset", "inner"), [("after", 0.5 * 0.372), ("before", 0.2 * 0.75)])
def test_one_step_by_hand(reset, inner):
    # h = 0.4, U_r = U_z = 0: r = z = 1/2; after: r (h U_n + c), before: (r h) U_n
    U, c = torch.tensor([[0.0, 0.0, 0.75]]), torch.tensor([0.072])
    gates, state = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.4]])
    new = gru_step(gates, state, U, c, reset)
    assert new.item() == pytest.approx(math.tanh(1.0 + inner) / 2 + 0.4 / 2)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("units", [4, 37, 64])  # below, beside and at whole vectors
@DIRECTIONS
@FORMS
def test_native_equals_the_plain_loop(reset, directions, units, threads):
    layer, x = layer_and_input(reset, units=units, dtype=torch.float32, directions=directions)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fast = layer(x, COUNTS)
        fast_gradients = gradients(fast, layer, x)
    finally:
        torch.set_num_threads(before)
    slow = layer.loop(x, COUNTS)
    torch.testing.assert_close(fast, slow, atol=2e-6, rtol=1e-5)
    for a, b in zip(fast_gradients, gradients(slow, layer, x), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@needs_compiler
def test_bfloat16_is_close_whatever_the_memory_held_before():
    """Rows of padding take no part; torch fills new memory with NaN here."""
    layer, x = layer_and_input(units=64, dtype=torch.float32)
    exact = layer(x, COUNTS)
    expected = gradients(exact, layer, x)
    use_precision("bfloat16")
    torch.use_deterministic_algorithms(True)
    try:
        states = layer(x, COUNTS)
        found = gradients(states, layer, x)
    finally:
        torch.use_deterministic_algorithms(False)
        use_precision("float32")
    for a, b in zip((states, *found), (exact, *expected), strict=True):
        torch.testing.assert_close(a, b, atol=0.05 * float(b.detach().abs().max()), rtol=0)


@needs_compiler
def test_native_backward_runs_once_only():
    layer, x = layer_and_input(dtype=torch.float32)
    total = layer(x, COUNTS).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        total.backward()


def test_equals_torch():
    """torch keeps W and U transposed, and a second bias for every gate."""
    layer, x = layer_and_input()
    theirs = torch.nn.GRU(5, 4, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for d, suffix in enumerate(("", "_reverse")):
            getattr(theirs, f"weight_ih_l0{suffix}").copy_(layer.W[d].t())
            getattr(theirs, f"weight_hh_l0{suffix}").copy_(layer.U[d].t())
            getattr(theirs, f"bias_ih_l0{suffix}").copy_(layer.b[d])
            getattr(theirs, f"bias_hh_l0{suffix}").zero_()[8:] = layer.c[d]
    torch.testing.assert_close(layer(x, torch.full((3,), 7)), theirs(x)[0])


@DIRECTIONS
def test_cudnn_equals_the_plain_loop(directions):
    layer, x = layer_and_input(directions=directions)
    fast, slow = cudnn_layer(layer, x, COUNTS), layer.loop(x, COUNTS)
    torch.testing.assert_close(fast, slow)
    for a, b in zip(gradients(fast, layer, x), gradients(slow, layer, x), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@FORMS
def test_padding_does_not_matter(reset, dtype):
    layer, x = layer_and_input(reset, dtype=dtype)
    padding = torch.arange(7) >= COUNTS.unsqueeze(1)
    spoilt = torch.where(padding.unsqueeze(-1), 1e3, x)
    assert torch.equal(layer(x, COUNTS), layer(spoilt, COUNTS))
    alone = layer(x[1:2, :4], COUNTS[1:2])
    torch.testing.assert_close(layer(x, COUNTS)[1:2, :4], alone)


def test_without_gradients_nothing_changes():
    layer, x = layer_and_input(dtype=torch.float32)
    with torch.no_grad():
        quiet = layer(x, COUNTS)
    assert torch.equal(quiet, layer(x, COUNTS))


@pytest.mark.parametrize("counts", [[3, 1, 2], [3, 3, 3]])
def test_packing_removes_padding(counts):
    x = torch.randn(3, 3, 2)
    rows = pack(x, counts)
    assert rows.tolist() == [x[b, t].tolist() for b in range(3) for t in range(counts[b])]
    real = torch.arange(3) < torch.tensor(counts).unsqueeze(1)
    assert torch.equal(unpack(rows, counts, 3), x * real.unsqueeze(-1))
