"""The compiled library: its owner, its checksum, and a compiler that fails."""

import os
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch
from compilers import needs_compiler

from asr.config import AttentionConfig, DecoderConfig
from asr.config.layers import Recurrent
from asr.model.decoder import AttentionDecoder
from asr.model.encoder.gru import GRU
from asr.model.fast import native

COMPILER = """import sys
from pathlib import Path
Path(__file__).with_name("calls").open("a").write("call\\n")
if Path(__file__).with_name("broken").exists():
    sys.exit("error: no header")
Path(sys.argv[-1]).write_bytes(b"a library")
"""


@needs_compiler
def test_the_functions_are_compiled_here():
    assert native.library() is not None


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A command that writes a file and counts its calls."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "compiler.py").write_text(COMPILER)
    return [sys.executable, str(tmp_path / "compiler.py")]


def calls(folder):
    return len((folder / "calls").read_text().splitlines())


def test_a_library_is_compiled_once(compiler, tmp_path):
    assert native._build(compiler) == native._build(compiler)
    assert calls(tmp_path) == 1
    assert (tmp_path / "cache" / "asr").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["cut", "writable", "folder"])
def test_a_damaged_or_writable_library_is_compiled_again(compiler, tmp_path, damage):
    path = native._build(compiler)
    if damage == "cut":
        os.truncate(path, 3)
    else:
        (path if damage == "writable" else path.parent).chmod(0o777)
    assert native._build(compiler).read_bytes() == b"a library"
    assert calls(tmp_path) == 2
    assert not (path.stat().st_mode | path.parent.stat().st_mode) & 0o022


def test_a_compiler_that_fails_is_tried_once(compiler, tmp_path):
    (tmp_path / "broken").touch()
    with pytest.raises(native.subprocess.SubprocessError):
        native._build(compiler)
    (tmp_path / "broken").unlink()
    with pytest.raises(OSError, match=r"no header.*remove .*failed to try again"):
        native._build(compiler)
    assert calls(tmp_path) == 1
    (failure,) = (tmp_path / "cache" / "asr").glob("*.failed")
    failure.unlink()
    assert native._build(compiler).exists()


def test_the_key_distinguishes_processors_of_arm(tmp_path):
    lines = "processor : 0\nBogoMIPS : {}\nFeatures : fp {}\nCPU part : 0xd0c\n"
    found = []
    for bogomips, features in (("50", "sve"), ("60", "sve"), ("50", "asimd")):
        (tmp_path / "cpuinfo").write_text(lines.format(bogomips, features))
        found.append(native._processor(tmp_path / "cpuinfo"))
    assert found[0] == found[1] != found[2] and "0xd0c" in found[0]


def test_another_compiler_of_the_same_name_compiles_again(tmp_path, monkeypatch):
    program = tmp_path / "cc"
    found = []
    for text in ("1", "12"):
        program.write_text(text)
        program.chmod(0o755)
        found.append(native._identity([str(program)]))
    assert found[0] != found[1] and native._identity(["no-such-compiler"]) == ""


def test_a_library_of_another_system_is_compiled_again(compiler, tmp_path, monkeypatch):
    def load(path):
        if calls(tmp_path) == 1:
            raise OSError("version `GLIBC_9.99' not found")
        return Mock()

    monkeypatch.setattr(native, "compiler", lambda: compiler)
    monkeypatch.setattr(native.ctypes, "CDLL", load)
    native._build(compiler)
    assert native.library.__wrapped__() is not None and calls(tmp_path) == 2


def test_a_library_that_another_process_removes_is_not_intact(tmp_path):
    assert not native._intact(tmp_path / "native.so")


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(OverflowError, match="n = 2147483648: too large for"):
        native.FUNCTIONS["dropout"]().set(n=2**31)


MEMORY = """
import resource, torch
from asr.model.fast import native
N = 2000
x, U, out = torch.zeros(1, 3 * N), torch.zeros(1, N, 3 * N), torch.zeros(1, 1, N)
c, counts = torch.zeros(1, N), native.int32([1])
assert native.library()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 10_000_000, used + 10_000_000))
try:
    native.call("layer_forward", gates_forward=x, gates_back=x, U=U, c=c, counts=counts, out=out,
                cell=0, D=1, B=1, S=1, N=N)
except MemoryError as error:
    print(error)
"""


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as on Linux")
def test_memory_that_runs_out_is_an_error():
    """A packed copy of U has 48 MB, the process may take 10 MB more."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "not enough memory for layer_forward of native.cpp\n"


@needs_compiler
def test_a_product_of_many_rows():
    """150,000 encoder steps: places in the product's tiles need more than 32 bits."""
    torch.manual_seed(1)
    decoder = AttentionDecoder(
        2,
        1,
        DecoderConfig(units=1, embedding=1, dropout=0.0),
        AttentionConfig(units=1, filters=1, filter_width=1),
    )
    states = torch.randn(1, 150_000, 1)
    gradients = []
    for fast in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not fast:
                patch.setattr("asr.model.fast.lookup.decoder", lambda *_: None)
            x = states.clone().requires_grad_()
            memory = decoder.precompute(x, torch.tensor([150_000]))
            logits, weights = decoder(torch.tensor([[1, 0]]), torch.tensor([2]), memory)
            total = 100 * logits.sum() + (weights * states[:, :, 0].unsqueeze(1)).sum()
            gradients.append(torch.autograd.grad(total, [x, *decoder.parameters()]))
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


@needs_compiler
def test_nothing_is_kept_without_gradients(monkeypatch):
    """Memory for backward is not taken in recognition."""
    kept, call = [], native.call

    def record(name, **fields):
        kept.append(fields["kept"] is not None)
        call(name, **fields)

    monkeypatch.setattr(native, "call", record)
    layer, x = GRU(3, Recurrent(units=4), "after"), torch.randn(1, 2, 3)
    decoder = AttentionDecoder(5, 3, DecoderConfig(units=4, embedding=4), AttentionConfig(units=4))
    decoder.eval()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            layer(x, torch.tensor([2]))
            memory = decoder.precompute(x, torch.tensor([2]))
            decoder(torch.tensor([[1, 2]]), torch.tensor([2]), memory)
    assert kept == [True, True, False, False]
