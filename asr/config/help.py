"""Help in two sizes: ``--help`` shows what most people need, and ``--help-all`` every option.

The description of a parser is the docstring of its verb. Its paragraphs stand above the options;
"Examples:" with indented commands and "Exit codes: ..." stand below them. Options are printed with
dashes, but underscores are accepted. For an unknown option, the error suggests the nearest one.
"""

import argparse
import difflib
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn, get_args, get_origin

from asr.errors import EXIT_USAGE, InputError

WIDTH, NARROW = 80, 40  # largest and smallest number of columns
INDENT = 24  # columns of an option before its text
HIDDEN = (argparse.SUPPRESS, "Path to a configuration file.")  # jsonargparse's options of sections
EXITS = "Exit codes: 0 done, 2 bad input or usage, 70 a mistake in asr itself."

Groups = Mapping[str, str]
"""Title of each group of options in ``--help``, and their names, separated by spaces. Only
``--help-all`` shows the options that are in no group."""


class Paged:
    """What the parsers of argparse and jsonargparse have in common: help and spelling."""

    help_groups: Groups = {}  # noqa: RUF012

    def add_argument(self: Any, *names: Any, **options: Any) -> Any:
        """Add an option or argument; the help says that an option is required."""
        if options.get("required"):
            options["help"] = f"{options.get('help', '')} (required)"
        return super().add_argument(*names, **options)  # type: ignore[misc]

    def format_help(self: Any) -> str:
        """Return the text of ``--help``."""
        return render(self, everything=not self.help_groups)

    def error(self: Any, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an InputError, in place of printing the usage and exiting."""
        inputs = any(not a.option_strings and a.nargs in ("*", "+") for a in self._actions)
        if inputs and re.match("unrecognized arguments: [^-]", message, re.IGNORECASE):
            message += ": name all inputs side by side, before or after the options"
        raise InputError(f"{message}; see {self.prog} --help") from ex

    def no_empty(self: Any, found: Any) -> Any:
        """Refuse empty values, as of a shell variable that is not set; return the namespace."""
        for action in self._actions:
            optional = action.option_strings and action.default is None
            if optional and getattr(found, action.dest, None) == "":
                name = action.option_strings[-1].replace("_", "-")
                self.error(f"{name}: an empty value; give one, or leave the option out")
        return found

    def spelled(self: Any, args: Sequence[str] | None) -> list[str]:
        """Return a command line with options as the parser spells them; answer ``--help-all``."""
        args = sys.argv[1:] if args is None else args
        if "--help-all" in (args[:1] if _verbs(self) else args):
            self._print_message(render(self, everything=True), sys.stdout)
            self.exit()
        return list(_spelled(self, args))


class Parser(Paged, argparse.ArgumentParser):
    """A parser of a verb without settings; its description is the docstring of the verb."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse."""
        found, others = super().parse_known_args(self.spelled(args), namespace)
        return self.no_empty(found), others


def dispatch(
    prog: str,
    description: str | None,
    verbs: Mapping[str, Callable[[list[str]], int]],
    argv: list[str],
) -> int:
    """Run a verb that has verbs of its own, such as ``asr data``; return the exit code.

    Args:
        prog: name of the verb.
        description: docstring of the verb.
        verbs: functions that take the rest of the command line; their docstrings are their help.
        argv: the command line without the program's name.
    """
    if argv and argv[0] in verbs:
        return verbs[argv[0]](argv[1:])
    parser = Parser(prog, description=description)
    listed = parser.add_subparsers(required=True, metavar="VERB")
    for name, run in verbs.items():
        listed.add_parser(name, help=(run.__doc__ or "").partition("\n")[0].rstrip("."))
    if argv:
        parser.parse_args(argv)
    parser.print_help()
    return EXIT_USAGE


def _verbs(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the list of a parser's own verbs, with their help."""
    subparsers = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return [verb for action in subparsers for verb in action._choices_actions]


def _spelled(parser: argparse.ArgumentParser, args: Sequence[str]) -> Iterator[str]:
    """Return the arguments, with options as the parser spells them."""
    known = parser._option_string_actions
    by_dashes = {name.replace("_", "-"): name for name in known}
    shown = [name for name, option in known.items() if option.help not in HIDDEN]
    has_verbs = bool(_verbs(parser))
    for position, arg in enumerate(args):
        if arg == "--":
            yield from args[position:]
            return
        name, equals, value = arg.partition("=")
        found = name if name in known else by_dashes.get(name.replace("_", "-"))
        abbreviated = any(option.startswith(name) for option in known)
        if found is None and name.startswith("--") and not (has_verbs or abbreviated):
            raise InputError(f"{name}: no such option{_nearest(name, shown)}")
        yield arg if found is None else f"{found}{equals}{value}"


def _nearest(name: str, names: Sequence[str]) -> str:
    dashed = [each.replace("_", "-") for each in names]
    close = difflib.get_close_matches(name.replace("_", "-"), dashed, 1)
    return f"; did you mean {close[0]}?" if close else "; --help-all lists all options"


def render(parser: argparse.ArgumentParser, *, everything: bool) -> str:
    """Return the help of a parser.

    Args:
        parser: parser with the docstring of its verb as description, and perhaps groups.
        everything: whether to show the options that are in no group, too.
    """
    width = max(NARROW, min(WIDTH, shutil.get_terminal_size().columns))
    actions = {a.dest: a for a in parser._actions if a.help not in HIDDEN}
    actions.pop("help", None)
    positionals = " ".join(_metavar(a) for a in actions.values() if not a.option_strings)
    above, below = _description(parser.description or "", width)
    lines = [f"usage: {parser.prog} [OPTION]... {positionals}".rstrip(), "", *above]
    if verbs := _verbs(parser):
        actions = {name: a for name, a in actions.items() if a.option_strings}
        lines += _group("verbs", verbs, width)
    shown: set[str] = set()
    for title, names in _groups(parser).items():
        if there := [actions[name] for name in names if name in actions]:
            lines += _group(title, there, width)
        shown |= set(names)
    rest = [action for name, action in actions.items() if name not in shown]
    if everything and rest:
        lines += _group("further options", rest, width)
    elif rest:
        lines += [f"{parser.prog} --help-all shows {len(rest)} more options.", ""]
    return "\n".join([*lines, *below]) + "\n"


def _description(text: str, width: int) -> tuple[list[str], list[str]]:
    """Return the lines of a description that stand above the options and below them."""
    above: list[str] = []
    examples: list[str] = []
    exits = EXITS
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("Examples:"):
            commands = textwrap.dedent(paragraph.partition("\n")[2])
            examples = ["examples:", *textwrap.indent(commands, "  ").splitlines(), ""]
        elif paragraph.startswith("Exit codes:"):
            exits = paragraph
        else:
            above += [*textwrap.wrap(paragraph, width), ""]
    return above, [*examples, *textwrap.wrap(exits, width)]


def _groups(parser: Any) -> dict[str, list[str]]:
    """Return titles and options of the groups of a parser, or else of argparse's groups."""
    if parser.help_groups:
        return {title: names.split() for title, names in parser.help_groups.items()}
    own = {g.title: [a.dest for a in g._group_actions] for g in parser._action_groups}
    rest = own.pop("options")
    own = {"arguments": own.pop("positional arguments"), **own}
    return {title: names for title, names in [*own.items(), ("options", rest)] if names}


def _group(title: str, actions: Sequence[argparse.Action], width: int) -> list[str]:
    lines = [f"{title}:"]
    for action in actions:
        names = ", ".join(name.replace("_", "-") for name in action.option_strings)
        head = f"  {names or ''} {_metavar(action)}".replace("   ", "  ").rstrip()
        text = textwrap.wrap(_text(action), width - INDENT, break_on_hyphens=False)
        if len(head) < INDENT:
            head = head.ljust(INDENT) + (text.pop(0) if text else "")
        lines += [head, *(" " * INDENT + line for line in text)]
    return [*lines, ""]


def _metavar(action: argparse.Action) -> str:
    """Return the placeholder for the value of an option or argument."""
    if action.nargs == 0:
        return ""
    kind = getattr(action, "_typehint", None) or action.type
    choices = get_args(kind) if get_origin(kind) is Literal else action.choices
    name = str(action.metavar or "{")
    if "{" in name and choices:  # jsonargparse writes {a,b}
        name = "|".join(map(str, choices))
    elif "{" in name:
        names = {"int": "N", "float": "X", "bool": "true|false"}
        name = names.get(getattr(kind, "__name__", ""), "TEXT")
    return {"+": f"{name}...", "*": f"[{name}]...", "?": f"[{name}]"}.get(str(action.nargs), name)


def _text(action: argparse.Action) -> str:
    """Return the help of an option with its default value."""
    text = " ".join((action.help or "").split()).rstrip(".")
    default = action.default
    if isinstance(default, tuple):
        default = str(list(default)).replace(" ", "")
    none = default in (None, "", argparse.SUPPRESS) or isinstance(default, list | dict)
    unsaid = none or default is False or "default" in text
    return text if unsaid else f"{text} (default: {default})"
