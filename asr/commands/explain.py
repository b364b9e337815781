"""Show on a page why a recogniser wrote what it wrote.

The page holds the audio, its spectrogram, the attention of every character, and the relevance:
what the probability of a character loses when a stretch of the audio or an earlier character is
hidden. It shows confidence, flags and other readings of each word, and plays the words. It is a
single file that works offline. -f also writes numbers (json), and for each input a picture (png)
and arrays (npz), beside the page.

Examples:
    asr explain command.wav -o command.html
    asr explain --data data/dev --model exp/mine -o dev.html -f html,json

After Ctrl-C, what is explained so far is written.

Exit codes: 0 done, 1 some files failed and the others were written, 2 bad input or usage, 70 a
mistake in asr itself.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.commands.transcribe import (
    add_input_options,
    files_read,
    open_recognizer,
    parse_recognition,
)
from asr.config import DecodeConfig, ExplainConfig
from asr.config.args import make_parser, settings_of
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, InputError, first_line
from asr.files import beside, check_outputs, fitting_name, longest_name, write_json, write_text
from asr.recognize.inputs import Input, collect, printable
from asr.recognize.writers import formats_from
from asr.terminal import note, print_error

if TYPE_CHECKING:
    from asr.explain.explainer import Explainer
    from asr.explain.explanation import Explanation

FORMATS = ("html", "json", "png", "npz")
GROUPS = {
    "input": "inputs data list recursive",
    "output": "out format",
    "relevance": "masks stretch_s",
    "model": "model min_confidence device threads",
    "search": "beam lm lm_weight word_lm hotwords config",
    "audio": "vad pause_s longest_s",
}


def main(argv: list[str]) -> int:
    """Run ``asr explain``; return the exit code."""
    parser = _parser()
    args, config, segmentation = parse_recognition(parser, argv, ExplainConfig)
    formats, page = formats_from(args.format, FORMATS), Path(args.out)
    if "html" in formats and page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {page}: expected a name that ends in .html")
    with tempfile.TemporaryDirectory(prefix="asr-") as spool:
        inputs = collect(
            args.inputs, Path(spool), data=args.data, lists=args.list, recursive=args.recursive
        )
        plan = _Plan(page, formats, inputs, Path(spool))
        check_outputs(plan.files(), _read(args, config, inputs))
        explained: list[Explanation] = []
        relevance = settings_of(ExplainConfig, args, parser.prog)
        try:
            with open_recognizer(args, config, segmentation) as recognizer:
                for found in _explain(recognizer, relevance, inputs):
                    plan.write(*found, len(explained))
                    explained.append(found[1].without_arrays())
        except KeyboardInterrupt:
            counts = f"{len(explained)} of {len(inputs)} files explained and written"
            raise KeyboardInterrupt(counts) from None
        finally:
            plan.write_all(explained)
    return EXIT_OK if len(explained) == len(inputs) else EXIT_SOME_FAILED


def _read(args: Any, config: DecodeConfig, inputs: Sequence[Input]) -> list[str | Path | None]:
    """Return the files and folders that are read, which no result may replace."""
    clips = [item.clip for item in inputs if not item.clip.command]
    sources = [clip.source for clip in clips if not isinstance(clip.source, bytes)]
    return [*sources, *args.data, *args.list, *files_read(args, config)]


def _parser() -> Any:
    parser = make_parser("asr explain", __doc__, GROUPS)
    add = parser.add_argument
    add_input_options(parser, "explained")
    add("-o", "--out", required=True, metavar="PAGE.html", help="the page to write")
    text = f"what to write, separated by commas: all, {', '.join(FORMATS)}"
    add("-f", "--format", default="html", help=text)
    return parser


@dataclass(frozen=True)
class _Plan:
    """Where the results are written."""

    page: Path
    formats: Sequence[str]
    inputs: Sequence[Input]
    spool: Path
    """Folder for the parts of the page."""

    def file(self, item: Input, kind: str) -> Path:
        """Return the file of an input beside the page."""
        folder = self.page.parent
        stem = f"{self.page.stem}.{item.file.stem}"
        return folder / fitting_name(stem, f".{kind}", longest_name(folder))

    def files(self) -> list[Path]:
        """Return all files that will be written."""
        own = {"html": self.page, "json": beside(self.page, ".json")}
        common = [path for kind, path in own.items() if kind in self.formats]
        kinds = [kind for kind in self.formats if kind not in own]
        taken: dict[Path, str] = {}
        for item in self.inputs:
            for target in (self.file(item, kind) for kind in kinds):
                if other := taken.get(target):
                    raise InputError(
                        f"{other} and {item.label} would both write {target}; rename one of them, "
                        "or explain them one after the other with two pages"
                    )
                taken[target] = item.label
        return [*common, *taken]

    def write(self, item: Input, explanation: "Explanation", number: int) -> None:
        """Write the results that belong to an input alone, and its part of the page."""
        from asr.explain.explanation import write_arrays
        from asr.explain.page import render
        from asr.explain.pictures import draw_explanation

        if "png" in self.formats:
            draw_explanation(explanation, self.file(item, "png"))
        if "npz" in self.formats:
            write_arrays(self.file(item, "npz"), explanation)
        if "html" in self.formats:
            write_text(self._part(number), render(explanation, number))

    def _part(self, number: int) -> Path:
        return self.spool / f"part{number}.html"

    def write_all(self, explained: Sequence["Explanation"]) -> None:
        """Write the results that all inputs share, if there are any."""
        from asr.explain.explanation import summary
        from asr.explain.page import write_page

        if not explained:
            return
        if "json" in self.formats:
            write_json(beside(self.page, ".json"), summary(explained))
        if "html" in self.formats:
            parts = (self._part(n).read_text("utf-8") for n in range(len(explained)))
            print(write_page(self.page, explained, parts))


def _explain(
    recognizer: "Explainer", config: ExplainConfig, inputs: Sequence[Input]
) -> Iterator[tuple[Input, "Explanation"]]:
    """Explain the inputs that can be read; report the others."""
    from asr.recognize.directory import stats_of_inputs

    speakers = stats_of_inputs(inputs, recognizer.header.config.features)
    for item, speaker in zip(inputs, speakers, strict=True):
        name = printable(item.utterance or item.file.name)
        try:
            found = recognizer.explain(item.clip, config, speaker=speaker, name=name)
        except InputError as error:
            message = first_line(error).removeprefix(f"{item.label}: ")
            print_error(f"asr explain: {item.label}: {message}")
            continue
        yield item, found
        note(f"{item.label}: {found.transcript.text or found.transcript.why_empty}")
