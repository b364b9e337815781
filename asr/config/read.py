"""Convert configurations from and to the plain dictionaries of YAML files and model headers."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from asr.config.field import SettingError, Settings, UnknownSettingError
from asr.errors import InputError

Config = TypeVar("Config", bound=Settings)
# Weights, feature statistics and random numbers depend on these settings, so they
# must not change during a training.
NETWORK = ("features.", "model.")
FIXED = ("seed", "passes", "loss.ctc_weight", *NETWORK)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dictionaries and lists, for YAML or JSON."""
    return asdict(
        config,
        dict_factory=lambda pairs: {k: list(v) if isinstance(v, tuple) else v for k, v in pairs},
    )


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """Build a configuration from plain dictionaries; the inverse of :func:`to_dict`.

    Args:
        cls: a dataclass of settings.
        values: settings; missing ones take their defaults.
        where: where the values come from, for the error message: for example the path of a file.

    Raises:
        InputError: a key is unknown, or a value has the wrong type or is out of range.
    """
    try:
        return build(cls, values)
    except SettingError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from error


def build(cls: type[Config], values: Any) -> Config:
    """Build a configuration as :func:`from_dict` does; errors name only the setting.

    Raises:
        SettingError: a key is unknown, or a value has the wrong type or is out of range.
    """
    if not isinstance(values, Mapping):
        raise SettingError("settings", values, "a table of settings")
    cls = cls.variant(values)
    hints = get_type_hints(cls)
    found = {}
    for name, value in unfold(values).items():
        if name not in hints:
            raise UnknownSettingError(name, value, ", ".join(hints))
        found[name] = convert(value, hints[name], name)
    return cls(**found)


def only_known(
    cls: type[Settings], values: Any, needed: Sequence[str] = (), *, off_only: bool = False
) -> Any:
    """Return settings without those that ``cls`` does not have.

    In the sections ``needed``, an unknown setting is left out only if it is off: false, 0 or empty.
    """
    if not isinstance(values, Mapping):
        return values
    hints = get_type_hints(cls)
    return {
        name: only_known(hints[name], value, off_only=off_only or name in needed)
        if name in hints
        else value
        for name, value in values.items()
        if name in hints or (off_only and value)
    }


def convert(value: Any, hint: Any, name: str) -> Any:
    """Convert a value of YAML or JSON to the type of its setting.

    Values that cannot be converted are returned as they are, and the dataclass refuses them.
    """
    if isinstance(hint, type) and issubclass(hint, Settings):
        if isinstance(value, hint):
            return value
        value = {} if value is None else value  # None: an empty section in YAML
        if not isinstance(value, Mapping):
            raise SettingError(name, value, "a table of settings")
        try:
            return build(hint, value)
        except SettingError as error:
            raise error.within(name) from None
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        names = (f"{name}[{number} of {len(value)}]" for number in range(1, len(value) + 1))
        return tuple(convert(v, get_args(hint)[0], n) for v, n in zip(value, names, strict=True))
    if hint in (int, float) and not isinstance(value, bool) and isinstance(value, str | int):
        with contextlib.suppress(ValueError, OverflowError):
            return hint(value)  # YAML takes 1e-3 for text
    return value


def unfold(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with their sections as dictionaries; keys may be ``section.name``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        section, dot, rest = str(key).partition(".")
        value = {rest: value} if dot else value
        old = found.get(section)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = {**old, **value}
        elif old is not None and value is not None:
            plain = old if dot else value
            raise SettingError(section, plain, "a value or a table of settings, not both")
        elif value is None:
            value = old  # an empty section
        found[section] = value
    return found


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a table of settings.

    Raises:
        InputError: the file is missing, is not YAML, or does not hold a table.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key in (key for key, _ in node.value if not key.tag.endswith(":merge")):
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise InputError(f"{path}:{line}: a list or table, expected a name before :")
                if key.value in seen:
                    raise InputError(f"{path}:{line}: {key.value} is there twice; keep one")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check the path") from error
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        raise InputError(f"{path}:{line}: not a YAML file: {error.problem}; fix it") from error
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise InputError(f"{path}: not a YAML file: {error}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{path}: found {type(values).__name__}, expected a table of settings")
    if twice := next((key for key in values if _is_in_section(str(key), values)), None):
        raise InputError(f"{path}: {twice} is there twice; keep one")
    return values


def _is_in_section(key: str, values: dict[str, Any]) -> bool:
    """Return whether the setting of a key ``section.name`` is in its section, too."""
    section, dot, rest = key.partition(".")
    inside = values.get(section) if dot else None
    for name in rest.split("."):
        inside = inside.get(name) if isinstance(inside, dict) else None
    return inside is not None


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a tree of settings as one table with keys such as ``section.name``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def is_fixed(key: str, beginnings: tuple[str, ...] = FIXED) -> bool:
    """Return whether a setting must not change during a training; dropout may."""
    return key.startswith(beginnings) and not key.endswith(".dropout")
