"""Word, character and sentence error rates: sums over the corpus, never means of utterances.

jiwer aligns the words, and rapidfuzz, on which jiwer is built, aligns the characters. The number of
errors in a sentence is unique (its edit distance). Its split into substitutions, deletions and
insertions is not: several alignments may cost the same, and other tools choose another one in a
few sentences out of a hundred.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import jiwer
import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from asr.errors import InputError, counted, listed
from asr.score.bootstrap import wer_spread
from asr.text.characters import clean
from asr.text.normalize import WordMap, apply_map, find_normalizer, fold_case

CountArray = npt.NDArray[np.int64]  # (N, 4): correct, substitutions, insertions, deletions
Pair = tuple[str | None, str | None]  # reference and hypothesis; None is a gap
Transcripts = str | Sequence[str] | Mapping[str, str]

MODES = ("strict", "present", "all")
_BLOCK = 4096  # sentences that jiwer aligns at once; bounds the memory of its alignments
_TAG = re.compile(r"\[.*\]|<.*>|!SIL")


@dataclass(frozen=True)
class Counts:
    """Counts of correct, substituted, inserted and deleted words (or characters)."""

    correct: int
    substitutions: int
    insertions: int
    deletions: int

    @property
    def total(self) -> int:
        """Number of words (or characters) in the references."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """The edit distance."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference word; infinite if there are errors but no reference word."""
        if self.total == 0:
            return math.inf if self.errors else 0.0
        return self.errors / self.total


@dataclass(frozen=True, repr=False)
class Score:
    """Error rates of a test set, computed on first use.

    Rates are fractions: a ``wer`` of 0.125 is 12.5 %.
    """

    ids: tuple[str, ...]
    """Scored utterances (N), in the order of the references."""
    refs: tuple[str, ...]
    """Their references, normalised, with single spaces."""
    hyps: tuple[str, ...]
    """Their hypotheses in the same form; a missing hypothesis is empty."""
    normalizer: str = "none"
    """The preparation of both sides, in words."""
    mode: str = "all"
    """The treatment of missing hypotheses; see :func:`score`."""
    missing: tuple[str, ...] = ()
    """Utterances without a hypothesis."""
    unknown: tuple[str, ...] = ()
    """Hypotheses without a reference; they are not scored."""

    @property
    def wer(self) -> float:
        """Word error rate."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate; spaces between words count as characters, as in jiwer."""
        return self.characters.rate

    @property
    def ser(self) -> float:
        """Sentence error rate: the share of sentences with at least one wrong word."""
        return self.wrong_sentences / len(self.ids)

    @property
    def wrong_sentences(self) -> int:
        """Number of sentences with at least one wrong word."""
        return wrong_sentences(self.word_counts)

    @property
    def words(self) -> Counts:
        """Word counts, summed over the corpus."""
        return total(self.word_counts)

    @cached_property
    def characters(self) -> Counts:
        """Character counts with spaces, summed over the corpus."""
        return total(count_symbols(self.refs, self.hyps))

    @cached_property
    def word_counts(self) -> CountArray:
        """Word counts of each utterance, (N, 4)."""
        return count_words(self.refs, self.hyps)

    @cached_property
    def no_space_counts(self) -> CountArray:
        """Character counts of each utterance without spaces, (N, 4)."""
        refs, hyps = (list(map(kaldi_characters, texts)) for texts in (self.refs, self.hyps))
        return count_symbols(refs, hyps)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of ``wer``; see :func:`asr.score.bootstrap.wer_spread`."""
        mean, half = self.spread
        return max(0.0, mean - half), mean + half

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Mean of the bootstrap replicates' rates, and half the width of their 95 % interval."""
        return wer_spread(errors(self.word_counts), reference_words(self.word_counts))

    def align(self, index: int) -> tuple[Pair, ...]:
        """Return the aligned words of an utterance; None is a gap."""
        return next(align([self.refs[index]], [self.hyps[index]]))

    def worst(self, n: int) -> list[int]:
        """Return the indices of up to n utterances with errors, the most errors first."""
        wrong, words = errors(self.word_counts), reference_words(self.word_counts)
        order = np.lexsort((words, -wrong))  # of the same number of errors, the shorter first
        return [int(i) for i in order[:n] if wrong[i] > 0]

    def __repr__(self) -> str:
        return f"<Score: {self}>"

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"WER {100 * self.wer:.2f} % [{100 * low:.2f}, {100 * high:.2f}], "
            f"CER {100 * self.cer:.2f} % (spaces counted), SER {100 * self.ser:.2f} %, "
            f"{len(self.ids)} sentences, {self.words.total} words, normalizer {self.normalizer}"
        )


def score(
    refs: Transcripts,
    hyps: Transcripts,
    normalizer: str = "none",
    mode: str = "all",
    *,
    ignore_case: bool = False,
    mapping: WordMap | None = None,
) -> Score:
    """Score hypotheses against references.

    Args:
        refs: one text, a list of texts, or texts by utterance id.
        hyps: hypotheses of the same type; a list has the length and order of ``refs``.
        normalizer: name of the normalizer of both sides, a key of
            :data:`asr.text.normalize.NORMALIZERS`.
        mode: treatment of an utterance without a hypothesis: "strict" refuses to score, "present"
            leaves it out, as Kaldi's recipes do, and "all" counts all its words as deleted.
        ignore_case: whether upper and lower case are the same.
        mapping: words to replace on both sides; see :func:`asr.text.normalize.read_map`.

    Raises:
        InputError: the two sides do not belong together, or there is nothing to score.
    """
    if mode not in MODES:
        raise InputError(f"mode {mode!r}: unknown, expected one of {', '.join(MODES)}")
    references, hypotheses = _by_id(refs, hyps)
    missing = tuple(name for name in references if name not in hypotheses)
    unknown = tuple(name for name in hypotheses if name not in references)
    _check_ids(references, missing, unknown, mode)
    ids = tuple(name for name in references if mode != "present" or name in hypotheses)
    normalize = preparation(normalizer, ignore_case, mapping or {})
    conditions = normalizer + ", case ignored" * ignore_case
    conditions += f", a map of {counted(len(mapping), 'line')}" if mapping else ""
    return Score(
        ids,
        tuple(_clean(references[name], normalize) for name in ids),
        tuple(_clean(hypotheses.get(name, ""), normalize) for name in ids),
        conditions,
        mode,
        missing,
        unknown,
    )


def preparation(normalizer: str, ignore_case: bool, mapping: WordMap) -> Callable[[str], str]:
    """Return a function that normalises a text, then folds its case, then applies the map.

    Both sides of the map are normalised in the same way.
    """
    normalize = find_normalizer(normalizer)

    def plain(text: str) -> str:
        text = normalize(text)
        return fold_case(text) if ignore_case else text

    def words(side: Sequence[str]) -> tuple[str, ...]:
        return tuple(plain(" ".join(side)).split())

    normal = {words(source): words(target) for source, target in mapping.items()}
    return lambda text: apply_map(plain(text), normal) if normal else plain(text)


def _by_id(refs: Transcripts, hyps: Transcripts) -> tuple[Mapping[str, str], Mapping[str, str]]:
    if isinstance(refs, Mapping) and isinstance(hyps, Mapping):
        return refs, hyps
    if isinstance(refs, Mapping) or isinstance(hyps, Mapping):
        raise InputError("one side has utterance ids and the other has none; use ids for both")
    ref_list = [refs] if isinstance(refs, str) else refs
    hyp_list = [hyps] if isinstance(hyps, str) else hyps
    if len(ref_list) != len(hyp_list):
        raise InputError(
            f"{len(ref_list)} references and {len(hyp_list)} hypotheses, expected one hypothesis "
            "for each reference, in the same order"
        )
    width = len(str(len(ref_list)))  # numbered so that sorting keeps the order
    ids = [f"{number:0{width}d}" for number in range(1, len(ref_list) + 1)]
    return dict(zip(ids, ref_list, strict=True)), dict(zip(ids, hyp_list, strict=True))


def _check_ids(
    references: Mapping[str, str], missing: Sequence[str], unknown: Sequence[str], mode: str
) -> None:
    if not references:
        raise InputError("no references; there is nothing to score")
    if unknown and len(missing) == len(references):
        raise InputError(
            f"no hypothesis has the id of a reference: found for example {unknown[0]}, expected "
            f"{missing[0]}; check that the two sides belong together"
        )
    if missing and (mode == "strict" or (mode == "present" and len(missing) == len(references))):
        count = counted(len(missing), "utterance")
        raise InputError(
            f"{count} ({listed(missing)}) without a hypothesis; add them, or choose mode all, "
            "which counts their words as deleted"
        )


def _clean(text: str, normalize: Callable[[str], str]) -> str:
    return " ".join(normalize(clean(text)).split())


def align(refs: Sequence[str], hyps: Sequence[str]) -> Iterator[tuple[Pair, ...]]:
    """Yield the aligned words of each pair of texts; None is a gap."""
    for start in range(0, len(refs), _BLOCK):
        block = slice(start, start + _BLOCK)
        output = jiwer.process_words(list(refs[block]), list(hyps[block]))
        for ref, hyp, chunks in zip(
            output.references, output.hypotheses, output.alignments, strict=True
        ):
            pairs: list[Pair] = []
            for chunk in chunks:
                left = ref[chunk.ref_start_idx : chunk.ref_end_idx]
                right = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
                pairs += zip_longest(left, right)
            yield tuple(pairs)


def operation(pair: Pair) -> str:
    """Return C (correct), S (substitution), I (insertion) or D (deletion) for an aligned pair."""
    ref, hyp = pair
    if ref is None:
        return "I"
    if hyp is None:
        return "D"
    return "C" if ref == hyp else "S"


def count_words(refs: Sequence[str], hyps: Sequence[str]) -> CountArray:
    """Count the correct, substituted, inserted and deleted words of each pair of texts, (N, 4)."""
    return count_symbols([text.split() for text in refs], [text.split() for text in hyps])


def count_symbols(refs: Sequence[Sequence[str]], hyps: Sequence[Sequence[str]]) -> CountArray:
    """Count the correct, substituted, inserted and deleted symbols of each pair, (N, 4).

    The counts equal those of jiwer, which is slower.
    """
    counts = np.zeros((len(refs), 4), np.int64)
    for row, ref, hyp in zip(counts, refs, hyps, strict=True):
        tags = [tag for tag, _, _ in Levenshtein.editops(ref, hyp).as_list()]
        substitutions, deletions = tags.count("replace"), tags.count("delete")
        correct = len(ref) - substitutions - deletions
        row[:] = correct, substitutions, tags.count("insert"), deletions
    return counts


def kaldi_characters(text: str) -> list[str]:
    """Split a text as score_kaldi_cer.sh does: no spaces, ``[NOISE]`` and ``<unk>`` whole."""
    return [c for word in text.split() for c in ([word] if _TAG.search(word) else word)]


def total(counts: CountArray) -> Counts:
    """Return the sums over all utterances."""
    return Counts(*map(int, counts.sum(axis=0)))


def reference_words(counts: CountArray) -> CountArray:
    """Return the number of reference words in each utterance, (N,)."""
    return counts[:, [0, 1, 3]].sum(axis=1)


def errors(counts: CountArray) -> CountArray:
    """Return the number of errors in each utterance, (N,)."""
    return counts[:, 1:].sum(axis=1)


def wrong_sentences(counts: CountArray) -> int:
    """Return the number of utterances with at least one error."""
    return int((errors(counts) > 0).sum())
