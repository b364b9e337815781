"""``asr calibrate``: teach a model how sure it may be, on recordings with transcripts."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.config import DecodeConfig, add_settings, from_args, make_parser
from asr.corpus.datadir import DataDir, Utterance
from asr.errors import InputError, first_line
from asr.model.find import search_settings
from asr.recognize.confidence import (
    BINS,
    FEWEST,
    LOW,
    bins,
    calibration_error,
    evidence,
    fit,
    held_out,
)

if TYPE_CHECKING:
    from asr.recognize.recognizer import Recognizer, Source
    from asr.recognize.transcript import Segment


@dataclass(frozen=True)
class Judged:
    """An utterance, as recognised."""

    utterance: Utterance
    segment: "Segment"
    right: bool
    """Whether all of the text is."""


@dataclass(frozen=True)
class Report:
    """What came of a calibration."""

    utterances: int
    right: int
    left_out: int
    """Utterances that could not be read or are too long for one go."""
    error: float
    """Expected calibration error, for speakers that the fit has not seen."""
    marked_right: float
    """Share of the right texts whose confidence is low, likewise."""
    marked_wrong: float
    """Share of the wrong ones."""


def main(argv: list[str]) -> int:
    """Parse the command line and calibrate."""
    parser = make_parser(
        "asr calibrate",
        "Fit how sure a model may be of a text, from how probable it finds the texts of a data "
        "directory and which of them are right. Writes a copy of the model that says so, and a "
        "picture beside it. Take recordings that the model was not trained on.",
    )
    parser.add_argument("model", help="folder of a training, model file, or a name of `asr models`")
    parser.add_argument("data", help="Kaldi data directory with transcripts")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="model to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes every core")
    add_settings(parser, DecodeConfig)
    config, args = from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))

    from asr.device import use_threads
    from asr.recognize.recognizer import load

    use_threads(args.threads)
    picture = Path(args.output).with_suffix(".reliability.png")
    report = calibrate(load(args.model, args.device, config), args.data, args.output, picture)
    print(
        f"{args.output}: {report.utterances} utterances of {args.data}, {report.right} of them "
        f"right; {report.left_out} left out\n"
        f"expected calibration error {100 * report.error:.1f} %; below {LOW} are "
        f"{100 * report.marked_wrong:.0f} % of the wrong texts and "
        f"{100 * report.marked_right:.0f} % of the right ones (of speakers held out)\n"
        f"{picture}: confidence and truth"
    )
    return 0


def calibrate(
    recognizer: "Recognizer", data: str | Path, target: str | Path, picture: Path
) -> Report:
    """Fit the confidence of a model and write it into a copy.

    Args:
        recognizer: the model, with the search settings it will be used with.
        data: data directory with transcripts.
        target: the model file to write; weights stay as they are stored.
        picture: PNG file to draw.

    Raises:
        InputError: the data directory is not valid, too few texts are right or wrong, or the
            search is without CTC.
    """
    from asr.model.checkpoint import copy_with_info

    if recognizer.config.ctc_weight == 0:
        raise InputError("--ctc_weight 0: confidence needs CTC's score, expected more than 0")
    utterances = DataDir.load(data).utterances
    judged = list(judge(recognizer, utterances))
    evidences = np.array([evidence(j.segment) for j in judged]).reshape(-1, 2)
    right = np.array([float(j.right) for j in judged])
    _check_counts(right, data)
    values = held_out(evidences, right, [j.utterance.speaker for j in judged])
    low = values < LOW
    report = Report(
        len(judged),
        int(right.sum()),
        len(utterances) - len(judged),
        calibration_error(values, right),
        float(low[right == 1].mean()),
        float(low[right == 0].mean()),
    )
    confidence = {**asdict(fit(evidences, right)), "fitted_on": asdict(report)}
    loaded = recognizer.loaded
    copy_with_info(loaded.path, target, {**loaded.info, "confidence": confidence})
    draw(values, right, report, picture)
    return report


def judge(recognizer: "Recognizer", utterances: Sequence[Utterance]) -> Iterator[Judged]:
    """Recognise utterances and compare them with their transcripts.

    Those that cannot be read or are cut because of their length are left out, and it is said.
    """
    waiting: deque[Utterance] = deque()

    def sources() -> Iterator["Source"]:
        from asr.audio.io import read_entry

        for u in utterances:
            try:
                waveform = read_entry(
                    u.wav, sample_rate=recognizer.rate, start_s=u.start_s, end_s=u.end_s
                )
            except InputError as error:
                _leave_out(u, first_line(error))
                continue
            waiting.append(u)
            yield waveform, recognizer.rate

    for found in recognizer.transcribe_each(sources()):
        u = waiting.popleft()
        if isinstance(found, InputError):
            _leave_out(u, first_line(found))
        elif len(found.segments) != 1:
            _leave_out(u, f"{found.duration_s:.0f} s are too long for one go")
        else:
            yield Judged(u, found.segments[0], found.text == " ".join((u.text or "").split()))


def _leave_out(utterance: Utterance, reason: str) -> None:
    print(f"warning: left out: {utterance.id}: {reason}", file=sys.stderr)


def _check_counts(right: np.ndarray, data: str | Path) -> None:
    count = int(right.sum())
    if min(count, len(right) - count) < FEWEST:
        raise InputError(
            f"{data}: {count} texts are right and {len(right) - count} are wrong, expected at "
            f"least {FEWEST} of each; take more recordings, or such as are "
            f"{'easier' if count < FEWEST else 'harder'} for this model"
        )


def draw(confidences: np.ndarray, right: np.ndarray, report: Report, path: Path) -> None:
    """The reliability picture: in each tenth of confidence, how many texts are right."""
    from matplotlib.figure import Figure

    from asr.files import write_png

    figure = Figure(figsize=(5, 5.6), layout="constrained")
    truth, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    parts = bins(confidences, right)
    truth.plot([0, 1], [0, 1], ":", color="grey")
    truth.plot([mean for mean, _, _ in parts], [share for _, share, _ in parts], "o-")
    truth.set(ylim=(-0.03, 1.03), ylabel="share of right texts", title=_title(report))
    edges = [k / BINS for k in range(BINS + 1)]
    counts.hist(
        [confidences[right == 1], confidences[right == 0]],
        bins=edges,
        stacked=True,
        label=["right", "wrong"],
    )
    counts.axvline(LOW, color="black", linestyle=":")
    counts.set(xlim=(0, 1), xlabel="confidence", ylabel="utterances")
    counts.legend(fontsize=8, loc="upper center")
    write_png(figure, path)


def _title(report: Report) -> str:
    return f"{report.utterances} utterances, calibration error {100 * report.error:.1f} %"
