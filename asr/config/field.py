"""A setting is a field of a frozen dataclass, declared with the values that it may take.

The checks run whenever a configuration is made: from a file, a command line, the header of a model
or Python::

    @dataclass(frozen=True)
    class EncoderConfig(Settings):
        units: int = setting(256, at_least(1))
        \"\"\"GRU units per direction.\"\"\"
"""

import dataclasses
import math
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from asr.errors import InputError

T = TypeVar("T")
SHOWN = 60  # characters of a value in a message
LARGEST = 2**63 - 1  # the largest integer of torch and numpy


class SettingError(InputError):
    """A setting has a value that it must not have.

    Args:
        name: name of the setting; :meth:`within` puts the names of its sections before it.
        found: value of the setting.
        expected: description of the values that are accepted.
    """

    form = "{name} = {found}, expected {expected}"

    def __init__(self, name: str, found: object, expected: str) -> None:
        super().__init__(self.form.format(name=name, found=_shown(found), expected=expected))
        self.name, self.found, self.expected = name, found, expected

    def within(self, section: str) -> "SettingError":
        """Return the same error with the name of a section before that of the setting."""
        return type(self)(f"{section}.{self.name}", self.found, self.expected)


class UnknownSettingError(SettingError):
    """There is no setting of this name."""

    form = "{name}: no such setting, expected one of {expected}"


class ConflictError(SettingError):
    """Settings contradict each other, although each of them is possible alone."""


def _shown(value: object) -> str:
    """Return the beginning of a value, because a few lines of YAML can stand for millions."""
    try:
        text = value if isinstance(value, str) else reprlib.repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


@dataclass(frozen=True)
class Check:
    """The values that a setting may take."""

    expected: str
    """Description that follows "expected" in a message."""
    holds: Callable[[Any], bool]
    """Whether a value of the right type is accepted."""


def _number(expected: str, holds: Callable[[Any], bool]) -> Check:
    def inside(value: Any) -> bool:
        most = math.inf if isinstance(value, float) else LARGEST + 1
        return -most < value < most and holds(value)  # false for NaN

    return Check(expected, inside)


def finite() -> Check:
    """Accept any number except NaN and infinity."""
    return _number("a finite number", lambda value: True)


def at_least(low: float) -> Check:
    """Accept ``low`` and all numbers above it."""
    return _number(f"{low:g} or more", lambda value: value >= low)


def more_than(low: float, high: float = math.inf) -> Check:
    """Accept numbers above ``low``, up to and including ``high``."""
    most = "" if high == math.inf else f", at most {high:g}"
    return _number(f"more than {low:g}{most}", lambda value: low < value <= high)


def between(low: float, high: float) -> Check:
    """Accept numbers from ``low`` to ``high``, both included."""
    return _number(f"{low} to {high}", lambda value: low <= value <= high)


def below(limit: float) -> Check:
    """Accept numbers from 0 up to, but not including, ``limit``."""
    return _number(f"0 or more, less than {limit:g}", lambda value: 0 <= value < limit)


def odd(low: int, high: int) -> Check:
    """Accept the odd numbers from ``low`` to ``high``."""
    return _number(
        f"an odd number from {low} to {high}", lambda value: low <= value <= high and value % 2 == 1
    )


def one_of(names: Collection[str]) -> Check:
    """Accept the given names."""
    return Check(f"one of {', '.join(names)}", lambda value: value in names)


def each(expected: str, low: float, high: float) -> Check:
    """Accept lists of at least one number, each from ``low`` to ``high``."""
    return Check(expected, lambda v: len(v) > 0 and all(low <= number <= high for number in v))


def setting(default: T, check: Check) -> T:
    """Return a field of a configuration whose values have to pass a check."""
    field: T = dataclasses.field(default=default, metadata={"check": check})
    return field


FRACTION = between(0, 1)
THREADS = between(0, 4096)
SEED = between(0, LARGEST)
SIZE = between(1, 65536)  # of a layer


def require(name: str, value: Any, check: Check) -> None:
    """Check a number that is not a field of a configuration.

    Raises:
        SettingError: it is not a number, or the check does not accept it.
    """
    if not isinstance(value, Real) or not check.holds(value):
        raise SettingError(name, value, check.expected)


@dataclass(frozen=True)
class Settings:
    """Base class of the configurations, which checks all fields of a new instance."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if wanted := wrong_type(value, hints[field.name]):
                raise SettingError(field.name, value, wanted)
            check: Check | None = field.metadata.get("check")
            if check is not None and not check.holds(value):
                raise SettingError(field.name, value, check.expected)
        self.check()

    @classmethod
    def variant(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class for a table of settings; a subclass may depend on the table's kind."""
        return cls

    def check(self) -> None:
        """Compare fields with each other.

        Raises:
            ConflictError: two fields contradict each other.
        """


def wrong_type(value: Any, hint: Any) -> str:
    """Return a description of the type that a value should have, or "" if it has that type."""
    if get_origin(hint) is Literal:
        values = get_args(hint)
        return "" if value in values else f"one of {', '.join(map(str, values))}"
    if get_origin(hint) is tuple:
        return _wrong_items(value, get_args(hint))
    if hint is bool or hint is str:
        named = "true or false" if hint is bool else "text"
        return "" if isinstance(value, hint) else named
    if hint is int or hint is float:
        kind, named = (Integral, "a whole number") if hint is int else (Real, "a number")
        return named if isinstance(value, bool) or not isinstance(value, kind) else ""
    return "" if isinstance(value, hint) else "a table of settings"


def _wrong_items(values: Any, hints: Sequence[Any]) -> str:
    """Return a description of the expected list, or "" if ``values`` is such a list."""
    fixed = hints[-1] is not Ellipsis
    each = "whole numbers" if hints[0] is int else "numbers"
    each = "tables of settings" if dataclasses.is_dataclass(hints[0]) else each
    example = "" if dataclasses.is_dataclass(hints[0]) else ", such as [1,2]"
    named = f"a list of {len(hints)} {each}" if fixed else f"a list of {each}"
    named += example
    if not isinstance(values, tuple | list) or (fixed and len(values) != len(hints)):
        return named
    return named if any(wrong_type(value, hints[0]) for value in values) else ""
