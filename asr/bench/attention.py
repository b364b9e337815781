"""The kinds of attention: what ``asr bench attention --list`` prints."""

import re
import sys
from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

from asr.config.kinds import ATTENTIONS

_TITLE = re.compile(r"(?P<title>.+) \(.*(?P<paper>arXiv:\d+\.\d+)")


def kinds() -> Iterator[dict[str, Any]]:
    """Yield what is known of each kind: its title and paper are the first line of its file."""
    for name, path in ATTENTIONS.items():
        kind = resolve_name(path)
        found = _TITLE.match(sys.modules[kind.__module__].__doc__ or "")
        yield {
            "kind": name,
            "paper": found["paper"] if found else "",
            "search": "hard" if kind.has_hard_form else "soft",
            "weights sum to": "1" if kind.sums_to_one else "0 to 1",
            "title": found["title"] if found else "",
        }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table of rows with the same keys."""
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(each.ljust(n) for each, n in zip(line, widths, strict=True)).rstrip()
