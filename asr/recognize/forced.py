"""``asr align``: when each word of a data directory was said, as CTM, and how true that is."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.config import DecodeConfig, add_machine_options, add_settings, from_args, make_parser
from asr.config.args import config_files
from asr.corpus.datadir import DataDir, Utterance
from asr.errors import EXIT_SOME_FAILED, InputError, first_line
from asr.files import check_not_read, check_outputs, write_text
from asr.recognize.spelling import tell_lacking
from asr.store.find import find_model, search_settings
from asr.text.transcripts import read_lines

if TYPE_CHECKING:
    from torch import Tensor

    from asr.recognize.transcript import Word
    from asr.recognize.utterances import Interpreter

_TOO_LONG = (
    "more characters than the audio has encoder steps, so CTC cannot align them; times are from "
    "attention, and of little worth; check the transcript and the segment"
)
NEAR_S = 0.08  # errors up to it are counted as small
TimedWord = tuple[str, float, float]  # with start and end in seconds


@dataclass(frozen=True)
class TimeErrors:
    """How far starts and ends of words lie from where they should be."""

    starts_s: np.ndarray
    """Found less expected, a number for each word."""
    ends_s: np.ndarray
    missing: int
    """Words that were expected and are not there to be compared."""

    def render(self) -> str:
        """Lines for people."""
        lines = [f"{len(self.starts_s)} words compared, {self.missing} not found"]
        for name, errors in (("starts", self.starts_s), ("ends", self.ends_s)):
            if len(errors):
                sizes = 1000 * np.abs(errors)
                lines.append(
                    f"{name}: median error {np.median(sizes):.0f} ms, mean {sizes.mean():.0f} ms, "
                    f"95 % below {np.percentile(sizes, 95):.0f} ms, "
                    f"{100 * np.mean(sizes <= 1000 * NEAR_S):.0f} % up to {1000 * NEAR_S:.0f} ms; "
                    f"bias {1000 * np.median(errors):+.0f} ms"
                )
        return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Parse the command line and align; 1 if some utterances could not be read."""
    parser = make_parser(
        "asr align",
        "Write when each word of a data directory was said, as CTM: <utterance> 1 <start> "
        "<duration> <word>, in seconds from the beginning of the utterance. Compared with another "
        "CTM, the errors are printed. Exit code 1: some utterances failed, the rest was written.",
    )
    parser.add_argument("data", help="Kaldi data directory")
    parser.add_argument("--model", required=True, help="folder of a training, or a model file")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="CTM to write")
    parser.add_argument("--ctm", metavar="FILE", help="true times to compare with")
    parser.add_argument(
        "--recognise",
        action="store_true",
        help="align what is recognised; by default the transcripts",
    )
    parser.add_argument(
        "--by", choices=("ctc", "attention"), default="ctc", help="where the times come from"
    )
    add_machine_options(parser)
    add_settings(parser, DecodeConfig)
    config, args = from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))
    read = (config.lm, config.word_lm, config.hotwords, args.ctm, find_model(args.model))
    check_outputs([args.output], [*read, *config_files(args)])

    from asr.model.machine import pick_device, use_machine
    from asr.recognize.utterances import Interpreter
    from asr.store.model_file import load_model

    use_machine(args.threads, args.precision)
    expected = read_ctm(args.ctm) if args.ctm else None
    interpreter = Interpreter(load_model(args.model, pick_device(args.device)), config)
    utterances = DataDir.load(args.data, text=not args.recognise).utterances
    check_not_read([args.output], (u.wav for u in utterances))
    found = dict(align(interpreter, utterances, recognise=args.recognise, by=args.by))
    write_text(args.output, "".join(ctm_lines(name, found[name]) for name in sorted(found)))
    print(f"{args.output}: {len(found)} of {len(utterances)} utterances")
    if expected is not None:
        print(compare(found, expected).render())
    return 0 if len(found) == len(utterances) else EXIT_SOME_FAILED


def align(
    interpreter: "Interpreter",
    utterances: Sequence[Utterance],
    *,
    recognise: bool = False,
    by: str = "ctc",
) -> Iterator[tuple[str, tuple["Word", ...]]]:
    """Words with their times, in seconds from the beginning of the utterance.

    Utterances that cannot be read are left out, and it is said, as it is where the audio is too
    short for CTC and attention tells the times. Words stay as the transcripts have
    them; it is said which characters the model lacks.

    Args:
        interpreter: the model, with search settings.
        utterances: with transcripts, unless they are to be recognised.
        recognise: whether to align what is recognised.
        by: ``ctc`` or ``attention``.

    Raises:
        InputError: the model was not trained with CTC, but that is asked for.
    """
    if by == "ctc" and interpreter.loaded.config.loss.ctc_weight == 0:
        raise InputError(
            f"{interpreter.loaded.path}: trained without CTC, so it cannot align by it; "
            "take --by attention"
        )
    if not recognise:
        texts = {u.id: u.text or "" for u in utterances}
        if lacking := tell_lacking(texts, interpreter.loaded.tokenizer):
            print(f"asr align: warning: the model lacks {lacking}", file=sys.stderr)
    size = interpreter.config.batch
    ordered = sorted(utterances, key=lambda u: u.duration_s or 0.0)
    for start in range(0, len(ordered), size):
        batch = list(_readable(interpreter, ordered[start : start + size]))
        features = [each for _, each in batch]
        said = [None if recognise else u.text or "" for u, _ in batch]
        if batch:
            words = interpreter.words(features, said, by_attention=by == "attention")
            for (u, _), each in zip(batch, words, strict=True):
                if by == "ctc" and each and each[0].evidence is None:
                    print(f"asr align: warning: {u.id}: {_TOO_LONG}", file=sys.stderr)
                yield u.id, each


def _readable(
    interpreter: "Interpreter", utterances: Sequence[Utterance]
) -> Iterator[tuple[Utterance, "Tensor"]]:
    from asr.audio.io import Outputs, read_entry

    loaded, outputs = interpreter.loaded, Outputs()
    for u in utterances:
        try:
            waveform = read_entry(
                u.wav,
                sample_rate=loaded.config.features.sample_rate,
                start_s=u.start_s,
                end_s=u.end_s,
                outputs=outputs,
            )
            yield u, loaded.features(waveform)
        except InputError as error:
            print(f"asr align: {u.id}: {first_line(error)}", file=sys.stderr)


def ctm_lines(utterance: str, words: Sequence["Word"]) -> str:
    """The CTM of an utterance, a line for each word."""
    return "".join(
        f"{utterance} 1 {w.start_s:.3f} {w.end_s - w.start_s:.3f} {w.text}\n" for w in words
    )


def read_ctm(path: str | Path) -> dict[str, list[TimedWord]]:
    """Words with start and end by utterance (or recording), in the order of the file.

    Raises:
        InputError: a line is not ``<id> <channel> <start> <duration> <word>``.
    """
    found: dict[str, list[TimedWord]] = {}
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            name, _, start, duration, word = fields[:5]
            times = float(start), float(duration)
        except ValueError as error:
            raise InputError(
                f'{path}:{number}: found "{line}", expected "<id> <channel> <start> <duration> '
                '<word>" with times in seconds'
            ) from error
        found.setdefault(name, []).append((word, times[0], times[0] + times[1]))
    return found


def compare(
    found: Mapping[str, Sequence["Word"]], expected: Mapping[str, Sequence[TimedWord]]
) -> TimeErrors:
    """Errors of the words that two CTMs have in common."""
    from asr.score.wer import align as align_words

    names = sorted(found.keys() & expected.keys())
    texts = [" ".join(word for word, _, _ in expected[name]) for name in names]
    heard = [" ".join(word.text for word in found[name]) for name in names]
    starts, ends, total = [], [], sum(map(len, expected.values()))
    for name, pairs in zip(names, align_words(texts, heard), strict=True):
        theirs, ours = iter(expected[name]), iter(found[name])
        for reference, hypothesis in pairs:
            right = next(theirs) if reference is not None else None
            word = next(ours) if hypothesis is not None else None
            if right is not None and word is not None and reference == hypothesis:
                starts.append(word.start_s - right[1])
                ends.append(word.end_s - right[2])
    return TimeErrors(np.array(starts), np.array(ends), total - len(starts))
