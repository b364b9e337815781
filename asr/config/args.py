"""Command lines: every setting of a dataclass is an option, its docstring the help.

jsonargparse is imported here alone, and only once a parser is made: it takes 0.2 s.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asr.config.field import THREADS, Check, ConflictError, SettingError, Settings, type_hints
from asr.config.help import PAGE, Page, Paged
from asr.config.layers import LayerConfig
from asr.config.read import build, load_yaml, to_dict, unfold
from asr.errors import InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Config = TypeVar("Config", bound=Settings)
Number = TypeVar("Number", int, float)


def make_parser(prog: str, description: str, page: Page = PAGE) -> "ArgumentParser":
    """An argument parser that reads the text beside a field as its help."""
    from jsonargparse import ArgumentParser, set_parsing_settings
    from jsonargparse.typing import register_type

    # Tables of layers are left to :func:`build`, which knows their kinds.
    register_type(LayerConfig, to_dict, dict, type_check=lambda value, cls: isinstance(value, dict))
    set_parsing_settings(docstring_parse_attribute_docstrings=True)

    class SettingsParser(Paged, ArgumentParser):  # type: ignore[misc]
        def parse_args(self, args: Any = None, *others: Any, **options: Any) -> Any:
            return super().parse_args(self.spelled(args), *others, **options)

    parser = SettingsParser(prog=prog, description=description, exit_on_error=False)
    parser.page = page
    return parser


def add_settings(parser: "ArgumentParser", *classes: type) -> None:
    """Add ``--config FILE`` and an option for every setting of dataclasses to a parser."""
    from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

    class ConfigFile(ActionConfigFile):
        def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
            if Path(values).is_file():
                _check_file(values, parser, classes)
            super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]

    parser.add_argument(
        "--config",
        action=ConfigFile,
        metavar="FILE",
        help="YAML file with settings; options given after it win.",
    )
    for cls in classes:
        parser.add_class_arguments(cls, as_group=False)


def _check_file(path: str, parser: Any, classes: Sequence[type]) -> None:
    """Refuse wrong settings of a file, and keys that are no options, by the file's name."""
    values = unfold(load_yaml(path))
    settings: set[str] = set()
    for cls in classes:
        names = type_hints(cls)
        settings |= set(names)
        try:
            build(cls, {name: value for name, value in values.items() if name in names})
        except ConflictError:
            continue  # an option on the command line may resolve it
        except SettingError as error:
            raise InputError(f"{path}: {error}; see {parser.prog} --help") from error
    options = {action.dest for action in parser._actions}
    for name in (name for name in values if name not in settings):
        if name not in options:
            raise InputError(f"{path}: {name}: no such setting; see {parser.prog} --help")
        items = values[name] if isinstance(values[name], list) else [values[name]]
        if any(isinstance(item, list | dict) for item in items):
            raise InputError(f"{path}: {name}: a table, expected the value of an option")


def from_args(
    cls: type[Config],
    parser: "ArgumentParser",
    args: Sequence[str],
    defaults: Callable[[Any], dict[str, Any]] = lambda options: {},
) -> tuple[Config, Any]:
    """Parse a command line that mixes the settings of ``cls`` with other options.

    Args:
        cls: the dataclass whose settings were added with :func:`add_settings`.
        parser: from :func:`make_parser`.
        args: the command line without the program's name.
        defaults: told what the command line says, gives settings that hold where neither it nor
            a file names others.

    Returns:
        the configuration, and the namespace with every parsed value.

    Raises:
        InputError: an option is unknown, or a value has the wrong type or is out of range.
    """
    try:
        namespace = parser.parse_args(list(args))
        if settings := defaults(namespace):
            parser.set_defaults(settings)
            namespace = parser.parse_args(list(args))
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see {parser.prog} --help") from error
    return settings_of(cls, namespace, parser.prog), namespace


def settings_of(cls: type[Config], namespace: Any, prog: str) -> Config:
    """The settings of a dataclass in a parsed command line.

    Raises:
        InputError: one of them is out of range.
    """
    values = {f.name: namespace[f.name] for f in fields(cls)}
    try:
        return build(cls, {name: _as_dict(value) for name, value in values.items()})
    except SettingError as error:
        raise InputError(f"{error}; see {prog} --help") from error


def config_files(namespace: Any) -> list[str]:
    """The files that ``--config`` names, for whoever must not write over them."""
    return [os.fspath(path) for path in namespace.config or ()]


def _as_dict(value: Any) -> Any:
    return value.as_dict() if hasattr(value, "as_dict") else value


@dataclass(frozen=True)
class _Ranged(Generic[Number]):
    """The ``type`` of an option whose numbers are checked as those of settings are."""

    kind: type[Number]
    expected: str
    check: Check

    def __repr__(self) -> str:  # in the help
        return self.kind.__name__

    def __call__(self, text: str) -> Number:
        try:
            value = self.kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text}, expected {self.expected}") from None
        if not self.check.holds(value):
            raise argparse.ArgumentTypeError(f"{text}, expected {self.check.expected}")
        return value


def whole(check: Check) -> Callable[[str], int]:
    """The ``type`` of an option that takes whole numbers in a range."""
    return _Ranged(int, "a whole number", check)


def real(check: Check) -> Callable[[str], float]:
    """The ``type`` of an option that takes numbers in a range."""
    return _Ranged(float, "a number", check)


def add_machine_options(parser: argparse.ArgumentParser, *, precision: bool = True) -> None:
    """Where and how the network computes; :func:`asr.commands.machine.machine` carries it out."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add_threads(parser)
    if precision:
        parser.add_argument(
            "--precision",
            choices=["float32", "bfloat16"],
            default="float32",
            help="bfloat16: large matrix products round what they read and write, which takes "
            "less time where the processor has instructions for it (`asr doctor`)",
        )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """How many threads compute."""
    parser.add_argument(
        "--threads", type=whole(THREADS), default=0, help="CPU threads; 0 takes every core"
    )
