"""The fast recurrence equals the equations, and torch's own GRU."""

import pytest
import torch

from asr.model.gru import BiGRU, bigru_reference, gru_step

COUNTS = torch.tensor([7, 4, 1])


def layer_and_input(dtype=torch.float64):
    layer = BiGRU(5, 4).to(dtype)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(3, 7, 5, dtype=dtype, requires_grad=True)
    return layer, x, torch.arange(7) >= COUNTS.unsqueeze(1)


def gradients(states, layer, x):
    direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    return torch.autograd.grad((states * direction).sum(), [x, *layer.parameters()])


def test_one_step_by_hand():
    # x W + b = (0, 0, 1), U = 0, c = 0: r = z = 1/2, n = tanh(1), h' = n / 2 + h / 2
    gates, state = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.4]])
    new = gru_step(gates, state, torch.zeros(1, 3), torch.zeros(1))
    assert new.item() == pytest.approx(0.7615942 / 2 + 0.2)


def test_states_and_gradients_equal_the_reference():
    layer, x, padding = layer_and_input()
    fast, slow = layer(x, padding), bigru_reference(layer, x, padding)
    torch.testing.assert_close(fast, slow)
    for a, b in zip(gradients(fast, layer, x), gradients(slow, layer, x), strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck():
    layer, x, padding = layer_and_input()
    parameters = tuple(layer.parameters())

    def run(x, W, U, b, c):
        weights = dict(zip(("W", "U", "b", "c"), (W, U, b, c), strict=True))
        return torch.func.functional_call(layer, weights, (x, padding))

    assert torch.autograd.gradcheck(run, (x, *parameters))


def test_equals_torch():
    """torch keeps W and U transposed, and a second bias for every gate."""
    layer, x, _ = layer_and_input()
    theirs = torch.nn.GRU(5, 4, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for d, suffix in enumerate(("", "_reverse")):
            getattr(theirs, f"weight_ih_l0{suffix}").copy_(layer.W[d].t())
            getattr(theirs, f"weight_hh_l0{suffix}").copy_(layer.U[d].t())
            getattr(theirs, f"bias_ih_l0{suffix}").copy_(layer.b[d])
            getattr(theirs, f"bias_hh_l0{suffix}").zero_()[8:] = layer.c[d]
    everything = torch.zeros(3, 7, dtype=torch.bool)
    torch.testing.assert_close(layer(x, everything), theirs(x)[0])


def test_padding_does_not_matter_to_the_last_bit():
    layer, x, padding = layer_and_input(torch.float32)
    spoilt = torch.where(padding.unsqueeze(-1), 1e3, x)
    assert torch.equal(layer(x, padding), layer(spoilt, padding))
    alone = layer(x[1:2, :4], torch.zeros(1, 4, dtype=torch.bool))
    torch.testing.assert_close(layer(x, padding)[1:2, :4], alone)


def test_without_gradients_nothing_changes():
    layer, x, padding = layer_and_input()
    with torch.no_grad():
        quiet = layer(x, padding)
    assert torch.equal(quiet, layer(x, padding))
