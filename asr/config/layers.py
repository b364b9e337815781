"""Settings of the encoder's layers: those that all kinds share, and those of each kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from asr.config.field import SIZE, Check, SettingError, Settings, between, one_of, setting
from asr.config.kinds import LAYERS, find_class

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Steps = TypeVar("Steps", int, "np.ndarray[Any, Any]", "Tensor")


@dataclass(frozen=True)
class LayerConfig(Settings):
    """Settings that every kind of layer has."""

    kind: str = setting("gru", one_of(LAYERS))
    """Each file of asr/model/encoder is a kind."""
    reduction: int = setting(1, between(1, 1000))
    """So many neighbouring steps become one."""

    @classmethod
    def variant(cls, values: Mapping[str, Any]) -> type[Self]:
        """The settings of the kind that a table names."""
        kind = cls(kind=values["kind"]).kind if "kind" in values else cls.kind
        found: type[Self] = find_class(LAYERS[kind][0])
        return found

    def output_steps(self, steps: Steps) -> Steps:
        """Return the number of output steps; the last one may be part padding."""
        return (steps + self.reduction - 1) // self.reduction

    def width(self, inputs: int) -> int:
        """Width of the output (O) for that of the input (I)."""
        raise NotImplementedError

    def fewest_weights(self, inputs: int) -> int:
        """Lower bound of the number of weights of such a layer."""
        raise NotImplementedError


@dataclass(frozen=True)
class Recurrent(LayerConfig):
    """A recurrent layer over ``reduction`` neighbouring steps side by side."""

    units: int = setting(256, SIZE)
    """Units per direction (N); the layer's width is directions * units."""
    directions: int = setting(2, between(1, 2))
    """2: forwards and backwards; 1: forwards alone, which does not look ahead."""

    def width(self, inputs: int) -> int:
        """The directions stand side by side."""
        return self.directions * self.units

    def fewest_weights(self, inputs: int) -> int:
        """Count the matrices of one gate."""
        return self.units * (self.reduction * inputs + self.units)


@dataclass(frozen=True)
class Convolutions(LayerConfig):
    """3x3 convolutions, each of which halves time and frequency."""

    kind: Literal["conv2d"] = "conv2d"
    reduction: int = setting(4, Check("2, 4, 8 or 16", lambda value: value in (2, 4, 8, 16)))
    """Takes a convolution for each factor of 2."""
    channels: int = setting(32, SIZE)
    """Channels of each convolution (C)."""

    @property
    def count(self) -> int:
        """How many convolutions there are."""
        return self.reduction.bit_length() - 1

    def width(self, inputs: int) -> int:
        """Frequencies are halved as steps are, and each has all channels."""
        return self.channels * self.output_steps(inputs)

    def fewest_weights(self, inputs: int) -> int:
        """Count the filters."""
        return 9 * self.channels * (1 + (self.count - 1) * self.channels)


@dataclass(frozen=True)
class SelfAttention(LayerConfig):
    """A block of the Transformer over ``reduction`` neighbouring steps side by side."""

    kind: Literal["attention"] = "attention"
    units: int = setting(256, SIZE)
    """Width of the layer (N); its inner layer is four times as wide."""
    heads: int = setting(4, between(1, 1024))
    """Heads of the attention (M), each N / M wide."""

    def check(self) -> None:
        """Refuse heads of different widths."""
        if self.units % self.heads:
            raise SettingError("heads", self.heads, f"a divisor of units = {self.units}")

    def width(self, inputs: int) -> int:
        """The units, whatever the input."""
        return self.units

    def fewest_weights(self, inputs: int) -> int:
        """Count the matrices."""
        return self.units * (self.reduction * inputs + 12 * self.units)
