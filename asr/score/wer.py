"""Word, character and sentence error rates: sums over the corpus, never means of utterances.

jiwer aligns the words, and rapidfuzz, which jiwer uses inside, the characters. The number of
errors of a sentence is unique (its edit distance), the split into substitutions, deletions
and insertions is not: where several alignments cost the same, rapidfuzz's choice counts.
Other tools choose otherwise in a few sentences out of a hundred.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
_COLUMN = {"equal": 0, "substitute": 1, "insert": 2, "delete": 3}
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
        """Words of the references."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """The edit distance."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference word; infinite where words were inserted into nothing."""
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
    """Their references: normalised, single spaces."""
    hyps: tuple[str, ...]
    """Their hypotheses, likewise; empty where there is none."""
    normalizer: str = "none"
    """What was applied to both."""
    mode: str = "all"
    """What was done about missing hypotheses."""
    missing: tuple[str, ...] = ()
    """Utterances without a hypothesis."""
    unknown: tuple[str, ...] = ()
    """Utterances of the hypotheses without a reference; they are not scored."""

    @property
    def wer(self) -> float:
        """Word error rate."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate; spaces between words count as characters, as for jiwer."""
        return self.characters.rate

    @property
    def cer_no_space(self) -> float:
        """Character error rate without spaces, as in Kaldi's ``cer_*`` files."""
        return self.characters_no_space.rate

    @property
    def ser(self) -> float:
        """Share of sentences with at least one wrong word."""
        return self.wrong_sentences / len(self.ids)

    @property
    def wrong_sentences(self) -> int:
        """Sentences with at least one wrong word."""
        return wrong_sentences(self.word_counts)

    @property
    def words(self) -> Counts:
        """Sums over all words."""
        return total(self.word_counts)

    @cached_property
    def characters(self) -> Counts:
        """Sums over all characters, spaces counted."""
        return total(count_characters(self.refs, self.hyps))

    @property
    def characters_no_space(self) -> Counts:
        """Sums over all characters, spaces dropped."""
        return total(self.no_space_counts)

    @cached_property
    def word_counts(self) -> CountArray:
        """Words of each utterance, (N, 4)."""
        return count_words(self.refs, self.hyps)

    @cached_property
    def no_space_counts(self) -> CountArray:
        """Characters of each utterance without spaces, (N, 4)."""
        return count_characters(*map(_without_spaces, (self.refs, self.hyps)))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of ``wer``; see :func:`asr.score.bootstrap.wer_spread`."""
        mean, half = self.spread
        return max(0.0, mean - half), mean + half

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Mean of the bootstrap's rates and half the width of their 95 % interval."""
        return wer_spread(errors(self.word_counts), totals(self.word_counts))

    def align(self, index: int) -> tuple[Pair, ...]:
        """Words of an utterance side by side; None is a gap."""
        return next(align([self.refs[index]], [self.hyps[index]]))

    def worst(self, n: int) -> list[int]:
        """Indices of the n utterances with most word errors, at most those with any."""
        wrong, words = errors(self.word_counts), totals(self.word_counts)
        order = np.lexsort((words, -wrong))  # the shorter first among equals
        return [int(i) for i in order[: max(0, n)] if wrong[i] > 0]

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
    """Compare hypotheses with references.

    Args:
        refs: one text, a list of texts, or texts by utterance id.
        hyps: the same kind; lists have the same length and order.
        normalizer: applied to both, one of :data:`asr.text.normalize.NORMALIZERS`.
        mode: an utterance without a hypothesis is an error ("strict"), is left out
            ("present", as in Kaldi's recipes), or counts as recognised as nothing ("all").
        ignore_case: whether upper and lower case are the same.
        mapping: words that count as others, on both sides; see
            :func:`asr.text.normalize.read_map`.

    Raises:
        InputError: the two do not belong together, or there is nothing to score.
    """
    if mode not in MODES:
        raise InputError(f"mode {mode!r}: unknown, expected one of {', '.join(MODES)}")
    references, hypotheses = _by_id(refs, hyps)
    missing = tuple(name for name in references if name not in hypotheses)
    unknown = tuple(name for name in hypotheses if name not in references)
    _check_ids(references, missing, unknown, mode)
    absent = frozenset(missing if mode == "present" else ())
    ids = tuple(name for name in references if name not in absent)
    normalize = preparation(normalizer, ignore_case, mapping or {})
    conditions = normalizer + ", case ignored" * ignore_case
    conditions += f", {len(mapping)} words mapped" if mapping else ""
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
    """Normalizer, then case, then the map, which is written in the resulting form."""
    normalize = find_normalizer(normalizer)
    if ignore_case:
        mapping = {_folded(source): _folded(target) for source, target in mapping.items()}

    def prepare(text: str) -> str:
        text = normalize(text)
        text = fold_case(text) if ignore_case else text
        return apply_map(text, mapping) if mapping else text

    return prepare


def _folded(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(fold_case, words))


def _by_id(refs: Transcripts, hyps: Transcripts) -> tuple[Mapping[str, str], Mapping[str, str]]:
    if isinstance(refs, Mapping) and isinstance(hyps, Mapping):
        return refs, hyps
    if isinstance(refs, Mapping) or isinstance(hyps, Mapping):
        raise InputError("one side has utterance ids, the other has not; use ids for both")
    ref_list = [refs] if isinstance(refs, str) else refs
    hyp_list = [hyps] if isinstance(hyps, str) else hyps
    if len(ref_list) != len(hyp_list):
        raise InputError(
            f"{len(ref_list)} references and {len(hyp_list)} hypotheses, expected as many "
            "of one as of the other, in the same order"
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
            f"none of the {len(unknown)} utterances of the hypotheses ({unknown[0]}, ...) is among "
            f"the {len(references)} of the references ({missing[0]}, ...); do the two belong "
            "together?"
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
    """Words of each pair of texts side by side, as jiwer aligns them; None is a gap."""
    for ref_words, hyp_words, chunks in _chunks(refs, hyps):
        pairs: list[Pair] = []
        for chunk in chunks:
            left = ref_words[chunk.ref_start_idx : chunk.ref_end_idx]
            right = hyp_words[chunk.hyp_start_idx : chunk.hyp_end_idx]
            pairs += zip_longest(left, right)
        yield tuple(pairs)


def count_words(refs: Sequence[str], hyps: Sequence[str]) -> CountArray:
    """Correct, substituted, inserted and deleted words of each pair, (N, 4)."""
    counts = np.zeros((len(refs), 4), np.int64)
    for row, (_, _, chunks) in zip(counts, _chunks(refs, hyps), strict=True):
        for chunk in chunks:
            width = max(
                chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
            )
            row[_COLUMN[chunk.type]] += width
    return counts


def _chunks(
    refs: Sequence[str], hyps: Sequence[str]
) -> Iterator[tuple[list[str], list[str], list[jiwer.AlignmentChunk]]]:
    """Words of each pair, and the stretches in which jiwer aligned them."""
    for start in range(0, len(refs), _BLOCK):
        block = slice(start, start + _BLOCK)
        output = jiwer.process_words(list(refs[block]), list(hyps[block]))
        yield from zip(output.references, output.hypotheses, output.alignments, strict=True)


def count_characters(refs: Sequence[Sequence[str]], hyps: Sequence[Sequence[str]]) -> CountArray:
    """Correct, substituted, inserted and deleted characters of each pair, (N, 4).

    The counts are those of ``jiwer.process_characters``, in a tenth of its time.
    """
    counts = np.zeros((len(refs), 4), np.int64)
    for row, ref, hyp in zip(counts, refs, hyps, strict=True):
        tags = [tag for tag, _, _ in Levenshtein.editops(ref, hyp).as_list()]
        substitutions, deletions = tags.count("replace"), tags.count("delete")
        correct = len(ref) - substitutions - deletions
        row[:] = correct, substitutions, tags.count("insert"), deletions
    return counts


def _without_spaces(texts: Iterable[str]) -> list[list[str]]:
    return [kaldi_characters(text) for text in texts]


def kaldi_characters(text: str) -> list[str]:
    """Split a text as score_kaldi_cer.sh does: no spaces, ``[NOISE]`` and ``<unk>`` whole."""
    if not _TAG.search(text):
        return list(text.replace(" ", ""))
    words = text.split()
    return [c for word in words for c in ([word] if _TAG.search(word) else word)]


def total(counts: CountArray) -> Counts:
    """Sums over the corpus."""
    return Counts(*map(int, counts.sum(axis=0)))


def totals(counts: CountArray) -> CountArray:
    """Reference words of each utterance, (N,)."""
    return counts[:, [0, 1, 3]].sum(axis=1)


def errors(counts: CountArray) -> CountArray:
    """Errors of each utterance, (N,)."""
    return counts[:, 1:].sum(axis=1)


def wrong_sentences(counts: CountArray) -> int:
    """Utterances with at least one error."""
    return int((errors(counts) > 0).sum())
