"""Command lines: every setting of a dataclass becomes an option, and its docstring the help.

Only this file imports jsonargparse, and only when it makes a parser, because the import is slow.
"""

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_type_hints

from asr.config.field import THREADS, Check, ConflictError, SettingError, Settings, wrong_type
from asr.config.help import Groups, Paged
from asr.config.layers import LayerConfig
from asr.config.read import build, load_yaml, to_dict, unfold
from asr.errors import InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Config = TypeVar("Config", bound=Settings)
Number = TypeVar("Number", int, float)
_REQUIRED = "the following arguments are required: "
_SECTION = re.compile(r'.*Parser key "(.+?)": Unable to load config', re.DOTALL)
_WRONG_TYPE = re.compile(r'.*Parser key "(.+?)":\s+Expected .* Got value: (.*)', re.DOTALL)


def make_parser(
    prog: str, description: str | None, groups: Groups | None = None
) -> "ArgumentParser":
    """Return an argument parser that takes the docstrings of fields as help texts.

    Args:
        prog: name of the verb, such as ``asr train``.
        description: docstring of the verb.
        groups: options that ``--help`` shows; None shows all.
    """
    from jsonargparse import ArgumentParser, set_parsing_settings
    from jsonargparse.typing import register_type

    # :func:`build` checks tables of layers, because it knows their kinds.
    register_type(LayerConfig, to_dict, dict, type_check=lambda value, cls: isinstance(value, dict))
    set_parsing_settings(docstring_parse_attribute_docstrings=True)

    class SettingsParser(Paged, ArgumentParser):  # type: ignore[misc]
        def parse_args(self, args: Any = None, *others: Any, **options: Any) -> Any:
            return self.no_empty(super().parse_args(self.spelled(args), *others, **options))

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            if message.startswith(_REQUIRED):  # names of settings, not of options
                options = (a.dest for a in self._actions if a.option_strings)
                dashed = {name: f"--{name.replace('_', '-')}" for name in options}
                names = message.removeprefix(_REQUIRED).split(", ")
                message = _REQUIRED + ", ".join(dashed.get(n, n) for n in names)
            if found := _SECTION.match(message):
                message = f"--{found[1]}: a section of settings; name one of them, as in --help-all"
            if found := _WRONG_TYPE.match(message):  # in the words of a wrong file
                name, value = found.groups()
                hint = next(
                    (getattr(a, "_typehint", str) for a in self._actions if a.dest == name), str
                )
                message = str(SettingError(name, value, wrong_type(value, hint)))
            super().error(message, ex)

    parser = SettingsParser(prog=prog, description=description, print_config=None)
    parser.help_groups = groups or {}
    return parser


def add_settings(parser: "ArgumentParser", *classes: type) -> None:
    """Add ``--config FILE`` and an option for every setting of dataclasses to a parser."""
    from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

    class ConfigFile(ActionConfigFile):
        def __call__(self, parser: Any, cfg: Any, values: Any, option_string: Any = None) -> None:
            if not Path(values).is_file():
                found = "a pipe; name a YAML file" if Path(values).exists() else "no such file"
                found = "a folder; name a YAML file" if Path(values).is_dir() else found
                raise InputError(f"--config {values}: {found}")
            if not _check_file(values, parser, classes):
                return  # jsonargparse refuses files without a value
            super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]

    parser.add_argument(
        "--config",
        action=ConfigFile,
        metavar="FILE",
        help="YAML file with settings; options after it override them",
    )
    for cls in classes:
        parser.add_class_arguments(cls, as_group=False)


def _check_file(path: str, parser: Any, classes: Sequence[type]) -> bool:
    """Return whether a file has values; raise an InputError that names it for wrong ones."""
    try:
        values = unfold(load_yaml(path))
    except SettingError as error:
        raise InputError(f"{path}: {error}") from error
    settings: set[str] = set()
    for cls in classes:
        names = get_type_hints(cls)
        settings |= set(names)
        try:
            build(cls, {name: value for name, value in values.items() if name in names})
        except ConflictError:
            continue  # an option on the command line may resolve it
        except SettingError as error:
            raise InputError(f"{path}: {error}; see {parser.prog} --help") from error
    options = {action.dest: action for action in parser._actions}
    for name in (name for name in values if name not in settings):
        if name not in options:
            raise InputError(f"{path}: {name}: no such setting; see {parser.prog} --help")
        if expected := _expected(options[name], values[name]):
            wrong = SettingError(name, values[name], expected)
            raise InputError(f"{path}: {wrong}; see {parser.prog} --help")
    return any(value is not None for value in values.values())


def _expected(option: Any, value: Any) -> str:
    """Return the values of an option that a file may have, or "" if ``value`` is one of them."""
    if option.nargs in ("*", "+") or isinstance(option, argparse._AppendAction):
        wrong = isinstance(value, list) and any(not isinstance(item, str) for item in value)
        return "a list of texts" if wrong or not isinstance(value, list | None) else ""
    if option.choices:
        return "" if value in option.choices else f"one of {', '.join(option.choices)}"
    if option.type is None:
        return "" if value is None else wrong_type(value, bool if option.nargs == 0 else str)
    try:
        option.type(str(value))
    except ValueError as error:
        return str(error).partition("expected ")[2]
    return ""


def from_args(
    cls: type[Config],
    parser: "ArgumentParser",
    args: Sequence[str],
    defaults: Callable[[Any], dict[str, Any]] | None = None,
) -> tuple[Config, Any]:
    """Parse a command line that mixes the settings of ``cls`` with other options.

    Args:
        cls: the dataclass whose settings were added with :func:`add_settings`.
        parser: from :func:`make_parser`.
        args: the command line without the program's name.
        defaults: takes the parsed namespace and returns settings of its model that replace the
            defaults; files and options still override them.

    Returns:
        the configuration, and the namespace with every parsed value.

    Raises:
        InputError: an option is unknown, or a value has the wrong type or is out of range.
    """
    names = {field.name for field in fields(cls)} if defaults else ()
    for action in parser._actions:
        if action.dest in names and action.default != "":  # "" is a file, and models name none
            text = str(action.help).rstrip(".")
            action.help = f"{text} (default: the model's or {action.default})"
    namespace = parser.parse_args(list(args))
    if defaults and (settings := defaults(namespace)):
        parser.set_defaults(settings)
        namespace = parser.parse_args(list(args))
    return settings_of(cls, namespace, parser.prog), namespace


def settings_of(cls: type[Config], namespace: Any, prog: str) -> Config:
    """Return the settings of a dataclass from a parsed command line.

    Raises:
        InputError: a value is out of range.
    """
    found = ((field.name, namespace[field.name]) for field in fields(cls))
    values = {n: v.as_dict() if hasattr(v, "as_dict") else v for n, v in found}
    try:
        return build(cls, values)
    except SettingError as error:
        raise InputError(f"{error}; see {prog} --help") from error


def config_files(namespace: Any) -> list[str]:
    """Return the files that ``--config`` names; they must not be overwritten."""
    return [os.fspath(path) for path in namespace.config or ()]


class NumberError(argparse.ArgumentTypeError, ValueError):
    """A number is out of range; argparse catches the first type, jsonargparse the second."""


def number(kind: type[Number], check: Check) -> Callable[[str], Number]:
    """Return the ``type`` of an option that takes numbers in a range.

    Args:
        kind: int or float.
        check: the range, as for a setting.
    """

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise NumberError(f"{text}, expected {expected}") from None
        if not check.holds(value):
            raise NumberError(f"{text}, expected {check.expected}")
        return value

    parse.__name__ = kind.__name__  # for the help
    return parse


def add_machine_options(parser: argparse.ArgumentParser, *, precision: bool = True) -> None:
    """Add the options that :func:`asr.commands.machine.machine` and ``pick_device`` take."""
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=number(int, THREADS), default=0, help="CPU threads; 0 uses every core")
    if precision:
        text = (
            "bfloat16: round the inputs and outputs of large matrix products to bfloat16; auto: "
            "where that is faster, on GPUs and on processors with AMX or AVX512_BF16 (see `asr "
            "doctor`)"
        )
        choices = ["float32", "bfloat16", "auto"]
        add("--precision", choices=choices, default="float32", help=text)
