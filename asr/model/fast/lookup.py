"""Look up the fast form of a decoder, a layer or dropout; None means that plain torch computes.

The caller then runs its plain form. Fast forms know the kinds of attention, cells and layers; these
do not know them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

from torch import Tensor, nn

from asr.model.attention import Attention
from asr.model.cells import Cell
from asr.model.fast import dropout as drop
from asr.model.fast import kinds, loop, native, session
from asr.model.fast import layer as layers
from asr.model.memory import Memory
from asr.model.session import DecoderParts, DecoderSession


class FastDecoder(NamedTuple):
    """The loop over whole transcripts, and a search's session."""

    loop: Callable[[Any, Any, Tensor, Tensor, Memory], tuple[Tensor, Tensor]]
    session: Callable[[DecoderParts, Memory, int], DecoderSession]


FastLayer: TypeAlias = Callable[[Any, Tensor, Tensor], Tensor]
"""A layer, its input (B, S, I) and the real steps (B,) to its output (B, S, O)."""


def decoder(attention: Attention, cell: Cell, tensor: Tensor) -> FastDecoder | None:
    """The fast form for these types, and for the device and type of a tensor.

    Args:
        attention: the kind of attention.
        cell: the cell of the decoder.
        tensor: one of those that are to be computed with.
    """
    energy, form = kinds.energy(attention), kinds.form(cell)
    if energy is None or form is None:
        return None
    if native.usable(tensor, cell.U):
        return FastDecoder(loop.native_loop, session.NativeSession)
    A, K = energy.W.shape[1], 0 if energy.filters is None else energy.filters.shape[1]
    gpu = form != "lstm" and native.on_gpu(tensor, cell.U)
    if gpu and native.kernels().fits(A, K, tensor.device):
        return FastDecoder(loop.kernel_loop, session.KernelSession)
    return None


def layer(module: nn.Module, tensor: Tensor) -> FastLayer | None:
    """The fast form of an encoder's layer, for the device and type of a tensor."""
    name, weights = f"{type(module).__module__}.{type(module).__name__}", cast(Any, module)
    if name != "asr.model.encoder.gru.GRU":  # the name, since that file imports this one
        return None
    after, both = weights.reset == "after", len(weights.W) == 2
    if native.usable(tensor, weights.W):
        return layers.native_layer
    if after and both and native.on_gpu(tensor, weights.W):
        return layers.kernel_layer
    if after and tensor.device.type == "cuda":
        return layers.cudnn_layer
    return layers.looped_layer


def dropout(tensor: Tensor) -> Callable[[Tensor, float], Tensor] | None:
    """The fast form of dropout with a share, for the device and type of a tensor."""
    return drop.dropout if native.usable(tensor) else None
