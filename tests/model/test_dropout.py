"""Dropout by hash: the right share, the same mask backward, a new one every time."""

import pytest
import torch
from compilers import needs_compiler

from asr.errors import InputError
from asr.model.dropout import Dropout

pytestmark = needs_compiler


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_share_scale_and_gradient(share):
    torch.manual_seed(1)
    x = torch.ones(200_000, requires_grad=True)
    y = Dropout(share)(x)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(1 - share, abs=0.005)
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - share)))
    y.backward(torch.ones_like(y))
    assert torch.equal(x.grad, y.detach())  # where it was dropped nothing comes back


def test_masks_are_independent():
    """Of two masks, and of neighbours in one, a share of a quarter keeps both."""
    torch.manual_seed(1)
    drop, x = Dropout(0.5), torch.ones(400_000)
    one, two = drop(x) != 0, drop(x) != 0
    for both in (one & two, one[1:] & one[:-1], one[256:] & one[:-256]):
        assert both.float().mean().item() == pytest.approx(0.25, abs=0.005)


def test_the_seed_of_torch_decides():
    x = torch.ones(1000)
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(Dropout(0.3)(x))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_threads_do_not_matter_and_evaluation_drops_nothing():
    x, results = torch.randn(100_000), []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(5)
        results.append(Dropout(0.3)(x))
    torch.set_num_threads(before)
    assert torch.equal(*results)
    assert Dropout(0.3).eval()(x) is x


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(InputError, match="expected 0 or more, less than"):
        Dropout(share)
