"""Settings of the attention: those of all kinds, and those that some kinds have."""

from dataclasses import dataclass

from asr.config.field import SIZE, ConflictError, Settings, between, odd, one_of, setting
from asr.config.kinds import ATTENTIONS

WITHOUT_UNITS = ("general", "local_m")  # kinds that do not read units
KIND_SETTINGS = {  # settings that only some kinds read
    "location": ("filters", "filter_width"),
    "location_accumulated": ("filters", "filter_width"),
    "local_m": ("window",),
    "local_p": ("window",),
    "forward": ("window",),
    "gmm": ("components",),
    "dynamic_convolution": ("filters", "filter_width", "window"),
    "hard_monotonic": ("bias", "noise"),
    "stepwise_monotonic": ("bias", "noise", "window"),
    "mocha": ("bias", "noise", "chunk"),
    "milk": ("bias", "noise"),
}


@dataclass(frozen=True)
class AttentionConfig(Settings):
    """Attention of the decoder over the encoder steps."""

    kind: str = setting("location", one_of(ATTENTIONS))
    """location: uses the content and the weights of the last character (arXiv:1506.07503). Each
    file of asr/model/attention is a kind and shows its equations; `asr bench attention --list`
    names them."""
    units: int = setting(128, SIZE)
    """Width of the energy layer (A); general and local_m have none."""
    heads: int = setting(1, between(1, 64))
    """Number of attentions side by side (M), each with units / heads and its own context."""
    filters: int = setting(10, SIZE)
    """Number of filters over the last weights (C), for location, location_accumulated and
    dynamic_convolution."""
    filter_width: int = setting(31, odd(1, 10_001))
    """Width of the filters over the last weights in encoder steps; odd."""
    window: int = setting(20, between(1, 10_000))
    """Encoder steps to each side of the centre, for local_m and local_p; the furthest that a
    character moves on, for forward, dynamic_convolution and stepwise_monotonic."""
    components: int = setting(5, between(1, 1000))
    """Number of Gaussians (K), for gmm."""
    chunk: int = setting(4, between(1, 1000))
    """Encoder steps of a chunk, for mocha."""
    bias: float = setting(-1.0, between(-100, 100))
    """Initial bias r of the energies of stopping, for hard_monotonic, stepwise_monotonic, mocha and
    milk; choose it lower if a character lasts for more encoder steps."""
    noise: float = setting(2.0, between(0, 100))
    """Standard deviation of the noise on the energies of stopping in training, for the same kinds;
    it drives the probabilities of stopping to 0 or 1. The papers have 1; more noise makes the soft
    form worse and the hard form better."""

    def check(self) -> None:
        """Refuse heads of different widths."""
        if self.units % self.heads:
            raise ConflictError("heads", self.heads, f"a divisor of units = {self.units}")

    @property
    def unread(self) -> set[str]:
        """Names of the settings that the kind does not read."""
        some = {name for names in KIND_SETTINGS.values() for name in names}
        return some.union({"units"}).difference(settings_of_kind(self.kind))

    def fewest_weights(self) -> int:
        """Lower bound of the number of weights."""
        filters = 0 if "filters" in self.unread else self.filters * self.filter_width
        return self.heads * filters


def settings_of_kind(kind: str) -> tuple[str, ...]:
    """Return the settings that a kind reads besides its heads."""
    units = () if kind in WITHOUT_UNITS else ("units",)
    return *units, *KIND_SETTINGS.get(kind, ())
