"""Command lines in usual words: ``--help`` shows what most people need, ``--help-all`` everything.

Options have dashes; underscores are accepted. An option that does not exist names the nearest.
"""

import argparse
import difflib
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from asr.errors import InputError

WIDTH = 80  # columns at most
INDENT = 24  # columns of an option before its text


EXAMPLES = {
    "asr features": (
        "asr features data/train data/dev --config conf/train.yaml",
        "asr features data/train --nj 8",
    ),
    "asr chars": (
        "asr chars data/train -o data/tokens.txt",
        "asr chars transcripts.txt --normalize librispeech",
    ),
    "asr average": ("asr average exp/mine/checkpoints/*.safetensors -o mean.safetensors",),
    "asr decode": (
        "asr decode --model exp/mine --data data/dev --out exp/mine/decode_dev",
        "asr decode --model exp/mine --data data/dev --out exp/nbest --nbest 24 --beam 24",
    ),
    "asr score": (
        "asr score data/dev exp/mine/decode_dev",
        "asr score ref.stm hyp.ctm --ignore-case",
    ),
    "asr tune": (
        "asr tune data/dev exp/mine/nbest --no-lm --out exp/tuned.yaml",
        "asr tune data/dev exp/mine/nbest --word-lm exp/words.arpa "
        "--tokens data/tokens.txt --out exp/tuned.yaml",
    ),
    "asr listen": ("asr listen --model exp/mine", "asr listen --times"),
    "asr align": (
        "asr align data/dev --model exp/mine -o dev.ctm",
        "asr align data/dev --model exp/mine -o dev.ctm --ctm true.ctm",
    ),
    "asr models": ("asr models", "asr models an4"),
    "asr export": (
        "asr export exp/mine -o mine.safetensors --dtype int8",
        "asr export exp/mine -o mine.safetensors --search exp/tuned.yaml",
    ),
    "asr calibrate": ("asr calibrate exp/mine data/dev -o mine.safetensors",),
    "asr bench": ("asr bench train", "asr bench transcribe --minutes 60 --json"),
    "asr doctor": ("asr doctor", "asr doctor --json"),
}


@dataclass(frozen=True)
class Page:
    """The options that ``--help`` of a verb shows."""

    groups: dict[str, str] = field(default_factory=dict)
    """Title of a group, and the options in it: names with spaces between them. Options that stand
    in no group are shown by ``--help-all`` alone."""
    examples: Sequence[str] = ()
    exits: str = "0 done, 2 bad input or usage"
    """Exit codes."""


PAGE = Page()
"""That of a verb with few options: all of them, in one group."""


class Paged:
    """What is common to argparse's parser and jsonargparse's: a page of help, usual spellings."""

    page = PAGE

    def format_help(self: Any) -> str:
        """Return the text of ``--help``."""
        return render(self, everything=not self.page.groups)

    def format_usage(self: Any) -> str:
        """Return the first line of it, which argparse puts above its errors."""
        return f"{render(self, everything=True).splitlines()[0]}\n"

    def spelled(self: Any, args: Sequence[str] | None) -> list[str]:
        """Return a command line with each option as the parser names it; answer ``--help-all``."""
        args = sys.argv[1:] if args is None else args
        if "--help-all" in (args[:1] if _verbs(self) else args):
            self._print_message(render(self, everything=True), sys.stdout)
            self.exit()
        return list(_spelled(self, args))


class Parser(Paged, argparse.ArgumentParser):
    """A parser of options that are no settings."""

    def __init__(self, *args: Any, page: Page = PAGE, **options: Any) -> None:
        super().__init__(*args, **options)
        self.page = page

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse."""
        return super().parse_known_args(self.spelled(args), namespace)


def _verbs(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)


def _spelled(parser: argparse.ArgumentParser, args: Sequence[str]) -> Iterator[str]:
    """The arguments, each option as the parser names it."""
    known = parser._option_string_actions
    by_dashes = {name.replace("_", "-"): name for name in known}
    has_verbs = _verbs(parser)
    for position, arg in enumerate(args):
        if arg == "--":
            yield from args[position:]
            return
        name, equals, value = arg.partition("=")
        found = name if name in known else by_dashes.get(name.replace("_", "-"))
        abbreviated = any(option.startswith(name) for option in known)
        if found is None and name.startswith("--") and not (has_verbs or abbreviated):
            raise InputError(f"{name}: no such option{_nearest(name, list(by_dashes))}")
        yield arg if found is None else f"{found}{equals}{value}"


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.replace("_", "-"), names, 1)
    return f"; did you mean {close[0]}?" if close else "; --help-all lists all options"


def render(parser: argparse.ArgumentParser, *, everything: bool) -> str:
    """Return the help of a parser.

    Args:
        parser: with a :class:`Page`, or without.
        everything: also the options that stand in no group of the page.
    """
    page: Page = getattr(parser, "page", PAGE)
    width = min(WIDTH, shutil.get_terminal_size().columns)
    actions = {a.dest: a for a in parser._actions if a.help != argparse.SUPPRESS}
    for unneeded in ("help", "print_config"):
        actions.pop(unneeded, None)
    verbs = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    positionals = " ".join(_metavar(a) for a in actions.values() if not a.option_strings)
    lines = [f"usage: {parser.prog} [OPTION]... {positionals}".rstrip(), ""]
    for paragraph in (parser.description or "").split("\n\n"):
        lines += [*textwrap.wrap(paragraph, width), ""]
    if verbs:
        actions.pop(verbs.dest)
        lines += _group("verbs", verbs._choices_actions, width)
    shown: set[str] = set()
    for title, names in _groups(parser, page).items():
        if there := [actions[name] for name in names if name in actions]:
            lines += _group(title, there, width)
        shown |= set(names)
    rest = [action for name, action in actions.items() if name not in shown]
    if everything and rest:
        lines += _group("further options" if shown else "options", rest, width)
    if examples := page.examples or EXAMPLES.get(parser.prog, ()):
        lines += ["examples:", *(line for example in examples for line in _command(example)), ""]
    if parser.epilog:
        lines += [parser.epilog, ""]
    if rest and not everything:
        lines.append(f"{parser.prog} --help-all shows {len(rest)} more options.")
    lines += textwrap.wrap(f"Exit codes: {page.exits}.", width)
    return "\n".join(lines) + "\n"


def _command(example: str) -> list[str]:
    """Lines of a command, as a shell takes them."""
    first, *more = textwrap.wrap(example, WIDTH - 8, break_on_hyphens=False)
    lines = [f"  {first}", *(f"      {line}" for line in more)]
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _groups(parser: argparse.ArgumentParser, page: Page) -> dict[str, list[str]]:
    """Titles and options of a page, or of the parser's own groups."""
    if page.groups:
        return {title: names.split() for title, names in page.groups.items()}
    own = {g.title: [a.dest for a in g._group_actions] for g in parser._action_groups}
    own["arguments"], rest = own.pop("positional arguments"), own.pop("options")
    return {title or "": names for title, names in [*own.items(), ("options", rest)] if names}


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
    """What stands for the value of an option."""
    kind = getattr(action, "_typehint", None) or action.type
    if action.metavar and not isinstance(action.metavar, tuple) and "{" not in action.metavar:
        return action.metavar
    choices = get_args(kind) if get_origin(kind) is Literal else action.choices
    if choices:
        return "|".join(map(str, choices))
    if action.nargs == 0:
        return ""
    return {"int": "N", "float": "X", "bool": "true|false"}.get(
        getattr(kind, "__name__", repr(kind)), "TEXT"
    )


def _text(action: argparse.Action) -> str:
    text = " ".join((action.help or "").split()).replace("%%", "%")
    text = text.replace("%(default)s", str(action.default))
    default = action.default
    unsaid = default in (None, "", False, argparse.SUPPRESS) or isinstance(default, list | dict)
    if unsaid or "default" in text:
        return text
    return f"{text.rstrip('.')} (default: {default})"
