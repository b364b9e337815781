"""Look up the fast form of a decoder or an encoder layer.

A caller without a fast form runs its plain form. Fast forms import the kinds of attention, cells
and layers, which do not import them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from asr.model.attention import Attention
from asr.model.cells import Cell
from asr.model.fast import kinds, loop, native, session
from asr.model.fast import layer as layers
from asr.model.fast.layer import GRUWeights
from asr.model.memory import Memory
from asr.model.session import DecoderParts, DecoderSession


class FastDecoder(NamedTuple):
    """Fast forms of a decoder."""

    loop: Callable[[Any, Any, Tensor, Tensor, Memory], tuple[Tensor, Tensor]]
    """The loop over whole transcripts; see :func:`asr.model.fast.loop.native_loop`."""
    session: Callable[[DecoderParts, Memory, int], DecoderSession]


FastLayer: TypeAlias = Callable[[GRUWeights, Tensor, Tensor], Tensor]
"""A layer, its input (B, S, I) and numbers of steps (B,) to its output (B, S, O)."""


def decoder(attention: Attention, cell: Cell, tensor: Tensor) -> FastDecoder | None:
    """Return the fast form of a decoder, or None.

    Args:
        attention: the decoder's attention.
        cell: the decoder's cell.
        tensor: any tensor of the computation; its device and type decide.
    """
    energy, form = kinds.energy(attention), kinds.form(cell)
    if energy is None or form is None:
        return None
    if native.usable(tensor, cell.U):
        return FastDecoder(loop.native_loop, session.NativeSession)
    A, K = energy.W.shape[1], 0 if energy.filters is None else energy.filters.shape[2]
    known = form != "lstm" and energy.kind in ("location", "additive", "dot")  # in kernels.py
    gpu = known and native.on_gpu(tensor, cell.U)
    if gpu and native.kernels().fits(A, K, tensor.device):
        return FastDecoder(loop.kernel_loop, session.KernelSession)
    return None


def layer(weights: GRUWeights, tensor: Tensor) -> FastLayer | None:
    """Return the fast form of a GRU layer for the device and type of a tensor, or None."""
    after, both = weights.reset == "after", len(weights.W) == 2
    if native.usable(tensor, weights.W):
        return layers.native_layer
    if after and both and native.on_gpu(tensor, weights.W):
        return layers.kernel_layer
    if after and tensor.device.type == "cuda":
        return layers.cudnn_layer
    return None
