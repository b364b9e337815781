"""Score translations with sacrebleu: BLEU, chrF and the share of exact sentences.

usage: bleu.py REFERENCES HYPOTHESES

Both are files in the format of Kaldi's ``text``. A line is printed for each figure, with what
sacrebleu calls its signature. A missing hypothesis counts as an empty one.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from recipe import run
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from asr.corpus.tables import read_table
from asr.errors import EXIT_USAGE, InputError


def score(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> list[str]:
    """Return the lines of BLEU, chrF and exact sentences.

    Raises:
        InputError: a hypothesis has no reference, or there are no references.
    """
    unknown = sorted(hypotheses.keys() - references.keys())
    if unknown or not references:
        what = f"{unknown[0]}: no reference" if unknown else "no references"
        raise InputError(f"{what}; score the set that was decoded")
    said = list(references.values())
    written = [hypotheses.get(name, "") for name in references]
    lines = []
    for metric in (BLEU(tokenize="none"), CHRF()):
        total = metric.corpus_score(written, [said])
        lines.append(f"%{total.name} {total.score:.2f} {metric.get_signature()}")
    exact = sum(a == b for a, b in zip(said, written, strict=True))
    return [*lines, f"%exact {100 * exact / len(said):.2f} [ {exact} / {len(said)} ]"]


def main(argv: list[str]) -> int:
    """``bleu.py REFERENCES HYPOTHESES``."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    for line in score(read_table(argv[0]), read_table(argv[1])):
        print(f"{line} {Path(argv[1]).parent}")
    return 0


if __name__ == "__main__":
    run(main)
