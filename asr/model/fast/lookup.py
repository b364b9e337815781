"""Fast forms of the decoder, found by one lookup; where there is none, plain torch computes.

The fast forms know the kinds of attention and of cells; these do not know them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from asr.model.attention import Attention
from asr.model.cells import Cell
from asr.model.fast import native
from asr.model.memory import Memory
from asr.model.session import DecoderParts, DecoderSession


class FastDecoder(NamedTuple):
    """The loop over whole transcripts, and a search's session."""

    loop: Callable[[Any, Any, Tensor, Tensor, Memory], tuple[Tensor, Tensor]]
    session: Callable[[DecoderParts, Memory, int], DecoderSession]


def decoder(attention: Attention, cell: Cell, tensor: Tensor) -> FastDecoder | None:
    """The fast form for these types, and for the device and type of a tensor; None: there is none.

    Args:
        attention: the kind of attention.
        cell: the cell of the decoder.
        tensor: one of those that are to be computed with.
    """
    from asr.model.attention.location import Location
    from asr.model.cells.gru import GRU

    if type(attention) is not Location or type(cell) is not GRU:
        return None
    from asr.model.fast import loop, session

    if native.usable(tensor, cell.U):
        return FastDecoder(loop.native_loop, session.NativeSession)
    if native.on_gpu(tensor, cell.U):
        A, K = attention.V.out_features, attention.filters.kernel_size[0]
        if native.kernels().fits(A, K, tensor.device):
            return FastDecoder(loop.kernel_loop, session.KernelSession)
    return None
