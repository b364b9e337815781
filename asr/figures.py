"""Pictures by matplotlib that do not depend on the user's settings."""

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.files import write_atomically
from asr.terminal import warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def own_settings(characters: str = "") -> Iterator[None]:
    """Use matplotlib's defaults, and installed fonts that have the characters.

    A user's settings can fail here: a notebook's MPLBACKEND, or LaTeX that is not installed.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    ours: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcParams.update(ours)
        matplotlib.rcParams["text.parse_math"] = False  # a dollar sign is a character
        names = ["DejaVu Sans Mono", *_fonts_for("".join(sorted(set(characters))))]
        matplotlib.rcParams["font.monospace"] = matplotlib.rcParams["font.family"] = names
        yield


@functools.cache
def _fonts_for(characters: str) -> tuple[str, ...]:
    """Find installed fonts for characters that matplotlib's font lacks; warn if none has them."""
    from matplotlib.font_manager import fontManager, get_font

    def known(path: str) -> set[str]:
        return {c for c in characters if get_font(path).get_char_index(ord(c))}

    missing = set(characters) - known(fontManager.findfont("DejaVu Sans Mono"))
    fonts: list[str] = []
    for entry in fontManager.ttflist if missing else ():
        if not entry.name.startswith("Last Resort") and (more := missing & known(entry.fname)):
            fonts.append(entry.name)
            missing -= more
    if missing:
        warn(
            f"no installed font has {' '.join(sorted(missing)[:20])}: pictures show boxes instead; "
            "install a font, for example fonts-noto"
        )
    return tuple(fonts)


def write_png(figure: "Figure", path: str | Path) -> Path:
    """Write a matplotlib figure atomically, without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    return write_atomically(path, lambda file: canvas.print_png(file))  # type: ignore[no-untyped-call]
