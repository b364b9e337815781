"""Lists of hypotheses of training utterances, for minimum word error rate training."""

from dataclasses import replace

import numpy as np
import torch

from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.loss import NBest
from asr.model.runtime import TorchModel
from asr.score import score
from asr.score.wer import errors
from asr.search.beam import search
from asr.text.tokenizer import CharTokenizer
from asr.train.evaluate import SEARCH
from asr.train.utterances import pad


@torch.no_grad()
def nbest(model: LAS, batch: Batch, tokenizer: CharTokenizer, size: int, *, has_ctc: bool) -> NBest:
    """Return the hypotheses of a beam search over a batch, and their word errors.

    Args:
        model: the network; it is in evaluation mode afterwards.
        batch: the utterances, on the device of the model.
        tokenizer: characters.
        size: beam width and number of hypotheses of an utterance (N).
        has_ctc: whether the CTC head is trained.
    """
    config = replace(SEARCH, beam=size, nbest=size)
    if not has_ctc:
        config = replace(config, ctc_weight=0.0, length_bonus=0.0)
    runtime = TorchModel(model.eval(), has_ctc=has_ctc)
    found = search(runtime, runtime.encoded(model.encode(batch.features, batch.frames)), config)
    rows = torch.tensor([row for row, each in enumerate(found) for _ in each])
    hypotheses = [torch.tensor(each.tokens, dtype=torch.int64) for row in found for each in row]
    pairs = zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    texts = [tokenizer.decode(y[:length]) for y, length in pairs]
    references = {str(i): texts[row] for i, row in enumerate(rows.tolist())}
    written = {str(i): tokenizer.decode(y.tolist()) for i, y in enumerate(hypotheses)}
    wrong = np.asarray(errors(score(references, written).word_counts), dtype=np.float32)
    tokens, lengths = pad(hypotheses)
    device = batch.tokens.device
    return NBest(rows, tokens.to(device), lengths, torch.from_numpy(wrong).to(device))
