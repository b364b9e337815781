"""Settings of the encoder's layers: the ones that all kinds share, and those of each kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from asr.config.field import SIZE, Check, SettingError, Settings, between, one_of, setting
from asr.config.kinds import LAYERS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Steps = TypeVar("Steps", int, "np.ndarray[Any, Any]", "Tensor")


@dataclass(frozen=True)
class LayerConfig(Settings):
    """Settings of every kind of layer."""

    kind: str = setting("gru", one_of(LAYERS))
    """Each file of asr/model/encoder is a kind."""
    reduction: int = setting(1, between(1, 1000))
    """Number of neighbouring steps that become one step."""

    @classmethod
    def variant(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the settings class of the kind that a table names."""
        kind = cls(kind=values["kind"]).kind if "kind" in values else cls.kind
        found: type[Self] = resolve_name(LAYERS[kind][0])
        return found

    def output_steps(self, steps: Steps) -> Steps:
        """Return the number of output steps; the last one may be partly padding."""
        return (steps + self.reduction - 1) // self.reduction

    def width(self, inputs: int) -> int:
        """Return the width of the output (O) for the width of the input (I)."""
        raise NotImplementedError

    def fewest_weights(self, inputs: int) -> int:
        """Return a lower bound of the layer's number of weights for an input width (I)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Recurrent(LayerConfig):
    """A recurrent layer whose input is ``reduction`` neighbouring steps, concatenated."""

    units: int = setting(256, SIZE)
    """Units per direction (N); the layer's width is directions * units."""
    directions: int = setting(2, between(1, 2))
    """2: forwards and backwards; 1: forwards only, without future context."""

    def width(self, inputs: int) -> int:
        """Return the width of the concatenated directions."""
        return self.directions * self.units

    def fewest_weights(self, inputs: int) -> int:
        """Return the number of weights of one gate."""
        return self.units * (self.reduction * inputs + self.units)


@dataclass(frozen=True)
class Convolutions(LayerConfig):
    """3x3 convolutions that each halve time and frequency."""

    kind: Literal["conv2d"] = "conv2d"
    reduction: int = setting(4, Check("2, 4, 8 or 16", lambda value: value in (2, 4, 8, 16)))
    """Each factor of 2 is one convolution."""
    channels: int = setting(32, SIZE)
    """Channels of each convolution (C)."""

    @property
    def count(self) -> int:
        """Number of convolutions."""
        return self.reduction.bit_length() - 1

    def width(self, inputs: int) -> int:
        """Return channels times frequencies, which are halved as the steps are."""
        return self.channels * self.output_steps(inputs)

    def fewest_weights(self, inputs: int) -> int:
        """Return the number of weights of the filters."""
        return 9 * self.channels * (1 + (self.count - 1) * self.channels)


@dataclass(frozen=True)
class SelfAttention(LayerConfig):
    """A Transformer block whose input is ``reduction`` neighbouring steps, concatenated."""

    kind: Literal["attention"] = "attention"
    units: int = setting(256, SIZE)
    """Width of the layer (N); the feed-forward layer is four times as wide."""
    heads: int = setting(4, between(1, 1024))
    """Attention heads (M), each N / M wide."""

    def check(self) -> None:
        """Check that all heads have the same width."""
        if self.units % self.heads:
            raise SettingError("heads", self.heads, f"a divisor of units = {self.units}")

    def width(self, inputs: int) -> int:
        """Return the number of units, which does not depend on the input."""
        return self.units

    def fewest_weights(self, inputs: int) -> int:
        """Return the number of weights of the matrices."""
        return self.units * (self.reduction * inputs + 12 * self.units)
