"""N-best lists of training utterances."""

import torch

from asr.model.las import LAS
from asr.train.data import TrainData
from asr.train.mwer import nbest
from asr.train.rank import Rank


def test_lists_have_the_word_errors_of_their_hypotheses(tone_corpus, tiny_training):
    paths = (str(tone_corpus / name) for name in ("train", "dev", "tokens.txt"))
    data = TrainData(tiny_training, *paths)
    torch.manual_seed(1)
    model = LAS(tiny_training.model, 20, len(data.tokenizer))
    (keys, *_) = data.epoch(0, Rank(torch.device("cpu")))
    batch = data.train.batch(keys)
    for has_ctc in (True, False):
        found = nbest(model, batch, data.tokenizer, 3, has_ctc=has_ctc)
        counts = found.rows.bincount(minlength=len(batch.ids)).tolist()
        assert min(counts) >= 1 and max(counts) == 3
        for i, row in enumerate(found.rows.tolist()):
            words = data.tokenizer.decode(found.tokens[i, : found.lengths[i]].tolist()).split()
            said = data.tokenizer.decode(batch.tokens[row, : batch.lengths[row]].tolist()).split()
            assert int(found.wrong[i]) == distance(words, said)


def distance(one: list[str], other: list[str]) -> int:
    """Levenshtein distance, by its definition."""
    if not one or not other:
        return len(one) + len(other)
    same = distance(one[1:], other[1:]) + (one[0] != other[0])
    return min(same, distance(one[1:], other) + 1, distance(one, other[1:]) + 1)
