"""Products of any layout, in both precisions."""

import pytest
import torch

from asr.model.fast import product as products
from asr.model.fast.product import affine, product, rounded, use_precision


@pytest.fixture
def bfloat16():
    use_precision("bfloat16")
    yield
    use_precision("float32")


@pytest.fixture(params=["oneDNN", "torch"])
def kernel(request, monkeypatch):
    """What multiplies: oneDNN where torch has it, or torch's default."""
    there = torch.backends.mkldnn.is_available() and products.is_x86()
    monkeypatch.setattr(products, "prefers_onednn", lambda: request.param == "oneDNN" and there)


def matrices():
    a, b = torch.randn(20, 33), torch.randn(33, 14)
    return [
        (a, b),
        (a.t().contiguous().t(), b),
        (a, b.t().contiguous().t()),
        (torch.randn(20, 50)[:, :33], torch.randn(33, 30)[:, 3:17]),  # neither is dense
    ]


@pytest.mark.usefixtures("kernel")
def test_every_layout():
    for a, b in matrices():
        bias = torch.randn(14)
        exact = a.double() @ b.double()
        torch.testing.assert_close(product(a, b), exact.float(), atol=1e-5, rtol=1e-5)
        expected = (exact + bias).float()
        torch.testing.assert_close(product(a, b, bias), expected, atol=1e-5, rtol=1e-5)


def test_gradients():
    x, W = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    b = torch.randn(5, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, W, b)]
    assert torch.autograd.gradcheck(affine, inputs)


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_is_as_close_as_eight_bits_allow():
    for a, b in matrices():
        exact = a.double() @ b.double()
        error = (product(a, b) - exact).abs() / (a.abs().double() @ b.abs().double())
        assert 1e-5 < error.max() < 2**-7  # rounded indeed, and by no more
        assert torch.equal(product(rounded(a), rounded(b)), product(a, b))


@pytest.mark.usefixtures("bfloat16")
def test_gradients_in_bfloat16():
    """21 rows, which the products see as 64."""
    x, W = torch.randn(3, 7, 33, requires_grad=True), torch.randn(33, 14, requires_grad=True)
    b, way = torch.randn(14, requires_grad=True), torch.randn(3, 7, 14)
    exact = x @ W + b
    expected = [exact, *torch.autograd.grad((exact * way).sum(), [x, W, b])]
    result = affine(x, W, b)
    found = [result, *torch.autograd.grad((result * way).sum(), [x, W, b])]
    for one, other in zip(found, [each.detach() for each in expected], strict=True):
        torch.testing.assert_close(one, other, atol=0.03 * float(other.abs().max()), rtol=0)


@pytest.mark.parametrize("flags", ["fpu avx2", "avx2 amx_bf16 avx512_bf16", "avx512_bf16"])
def test_what_is_fast_here(flags, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(products, "proc", lambda name, pattern: flags)
    unit = products.bfloat16_unit()
    assert unit == {"fpu avx2": "", "avx512_bf16": "avx512_bf16"}.get(flags, "amx_bf16")
    use_precision("auto")
    assert products.precision_in_use() == ("bfloat16" if unit else "float32")


@pytest.mark.parametrize(
    ("device", "supported", "unit"),
    [
        ("auto", True, "the GPU"),
        ("cuda:1", True, "the GPU"),
        ("cuda:1", False, ""),
        ("cpu", True, "amx_bf16"),
    ],
)
def test_the_unit_is_that_of_the_device(device, supported, unit, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: supported)
    monkeypatch.setattr(products, "proc", lambda name, pattern: "fpu amx_bf16")
    assert products.bfloat16_unit(device) == unit


@pytest.mark.usefixtures("bfloat16")
def test_other_types_keep_their_precision():
    a, b = torch.randn(3, 4).double(), torch.randn(4, 5).double()
    torch.testing.assert_close(product(a, b), a @ b)
