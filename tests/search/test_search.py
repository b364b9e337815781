"""Search: beam 1 is greedy, a wide beam is exhaustive, batches change nothing."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from asr.config import DecodeConfig, LMConfig
from asr.errors import InputError
from asr.lm.kneser_ney import estimate
from asr.lm.lookahead import WordLM
from asr.lm.perplexity import sentence_log_probs
from asr.model.char_lm import CharLM
from asr.model.fast import native
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.model.session import DecoderSession
from asr.search import beam
from asr.search.beam import BeamSearch
from asr.search.ctc_prefix import CTCPrefixScorer
from asr.search.greedy import greedy
from asr.search.hotwords import HotWords
from asr.search.hypothesis import BLANK
from asr.search.protocol import Scorer
from asr.search.scorers import make_scorers
from asr.text.tokenizer import CharTokenizer

MEL, VOCAB, EOS = 6, 5, 4  # <blank>, <unk>, two characters, <sos/eos>
PLAIN = DecodeConfig(beam=1, ctc_weight=0.0)


@pytest.fixture
def model(tiny_config):
    torch.manual_seed(3)
    model = LAS(tiny_config, MEL, VOCAB).eval()
    with torch.no_grad():  # far from uniform, so that hypotheses differ
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


def encode(model, frames=(40, 25, 9)):
    torch.manual_seed(1)
    features = torch.randn(len(frames), max(frames), MEL)
    return TorchModel(model).encoded(model.encode(features, torch.tensor(frames)))


def search(m, *args):
    return beam.search(m.model, m, *args)


def beam_search(m, config, *further):
    scorers = [*make_scorers(EOS, config), *further]
    return BeamSearch(m.model, m, config, scorers).run()


def test_beam_of_one_is_greedy(model):
    m = encode(model, (40, 31, 25, 17, 9))
    for one, beams in zip(greedy(m.model, m), beam_search(m, PLAIN), strict=True):
        assert beams[0].tokens == one.tokens
        assert beams[0].ended == one.ended
        assert beams[0].score == pytest.approx(one.score, abs=1e-4)
        np.testing.assert_allclose(beams[0].attention, one.attention, atol=1e-5)


@pytest.mark.parametrize(
    ("ctc_weight", "length_bonus"),
    [(0.0, 0.2), (0.4, 0.2), (1.0, 0.2), (0.0, 1.0)],  # at 1, texts are as long as they may be
)
def test_an_utterance_alone_and_in_a_batch(model, ctc_weight, length_bonus):
    config = DecodeConfig(beam=8, nbest=8, ctc_weight=ctc_weight, length_bonus=length_bonus)
    m = encode(model, (80, 25, 9))
    together = search(m, config)
    for row in range(3):
        alone = search(m.select([row]), config)[0]
        assert [h.tokens for h in alone] == [h.tokens for h in together[row]]
        for a, b in zip(alone, together[row], strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)
            np.testing.assert_allclose(a.attention, b.attention, atol=1e-5)


@pytest.fixture
def lm():
    torch.manual_seed(5)
    lm = CharLM(LMConfig(units=8, layers=2, embedding=4), VOCAB).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.mul_(3.0)
    return lm


def score_by_hand(model, m, tokens, config, lm=None):
    """The score of a whole transcript, by teacher forcing and torch's CTC loss."""
    inputs = torch.tensor([[EOS, *tokens]])
    targets = torch.tensor([[*tokens, EOS]])
    lengths = torch.tensor([len(tokens) + 1])
    log_probs = model.decoder(inputs, lengths, m.memory)[0].log_softmax(-1)
    attention = log_probs.gather(2, targets.unsqueeze(-1)).sum()
    ctc = -torch.nn.functional.ctc_loss(
        model.ctc_log_probs(m.memory.states).transpose(0, 1),
        torch.tensor([tokens]),
        m.memory.steps,
        torch.tensor([len(tokens)]),
        reduction="sum",
    )
    w = config.ctc_weight
    said = (1 - w) * attention + w * ctc + config.length_bonus * len(tokens)
    if lm is not None:
        read = lm(inputs)[0].gather(2, targets.unsqueeze(-1)).sum()
        said = said + config.lm_weight * read
    return float(said)


@pytest.mark.parametrize("with_lm", [False, True])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
def test_a_wide_beam_is_exhaustive(model, lm, ctc_weight, with_lm):
    """Nine frames are three steps, so at most four characters out of three: 121 transcripts."""
    config = DecodeConfig(
        beam=400, nbest=5, ctc_weight=ctc_weight, length_bonus=0.3, lm_weight=0.7, end_margin=0
    )
    lm = lm if with_lm else None
    m = encode(model, (9,))
    with torch.no_grad():
        every = {
            tokens: score_by_hand(model, m, tokens, config, lm)
            for length in range(5)
            for tokens in itertools.product((1, 2, 3), repeat=length)
        }
    best = sorted(every, key=every.__getitem__, reverse=True)
    found = search(m, config, lm)[0]
    assert [h.tokens for h in found] == best[: len(found)]
    assert len(found) == 5 or ctc_weight == 1.0  # where CTC allows fewer
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(every[hypothesis.tokens], abs=1e-3)


def test_an_utterance_alone_and_in_a_batch_with_a_language_model(model, lm):
    config = DecodeConfig(beam=4, nbest=2, lm_weight=0.5)
    m = encode(model)
    together = search(m, config, lm)
    for row in range(3):
        alone = search(m.select([row]), config, lm)[0]
        for a, b in zip(alone, together[row], strict=True):
            assert a.tokens == b.tokens
            assert a.scores["lm"] == pytest.approx(b.scores["lm"], abs=1e-4)
            assert a.scores["lm"] == pytest.approx(float(lm.score([list(a.tokens)])), abs=1e-4)


def test_a_wide_beam_is_exhaustive_with_a_word_model(model):
    """A search would stop too early if scores could rise: the result is that of trying all."""
    symbols = CharTokenizer(["<blank>", "<unk>", "<space>", "A", "<sos/eos>"])
    lm = WordLM(estimate(["A", "A A", "AA A"], 2), symbols)
    config = DecodeConfig(beam=400, nbest=5, length_bonus=0.3, lm_weight=0.7, end_margin=0)
    m = encode(model, (9,))
    with torch.no_grad():
        transcripts = [t for n in range(5) for t in itertools.product((1, 2, 3), repeat=n)]
        read = sentence_log_probs(lm, transcripts, EOS).tolist()
        every = {
            tokens: score_by_hand(model, m, tokens, config) + config.lm_weight * score
            for tokens, score in zip(transcripts, read, strict=True)
        }
    best = sorted(every, key=every.__getitem__, reverse=True)
    found = search(m, config, lm)[0]
    assert [h.tokens for h in found] == best[:5]
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(every[hypothesis.tokens], abs=1e-3)
        assert hypothesis.scores["lm"] == pytest.approx(
            read[transcripts.index(hypothesis.tokens)], abs=1e-3
        )


def test_a_language_model_with_weight_0_changes_nothing(model, lm):
    config = DecodeConfig(beam=4, lm_weight=0.0)
    m = encode(model)
    for a, b in zip(search(m, config, lm), search(m, config), strict=True):
        assert a[0].tokens == b[0].tokens
        assert a[0].score == pytest.approx(b[0].score, abs=1e-5)


def all_paths(log_probs, tokens_begin):
    """Probability of every path whose transcript begins with some tokens, one by one."""
    total, whole = 0.0, 0.0
    steps, vocab = log_probs.shape
    for path in itertools.product(range(vocab), repeat=steps):
        spelt = [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]
        probability = float(log_probs[range(steps), path].sum().exp())
        if tuple(spelt[: len(tokens_begin)]) == tokens_begin:
            total += probability
        if tuple(spelt) == tokens_begin:
            whole += probability
    return total, whole


@pytest.mark.parametrize("prefix", [(), (1,), (2, 2), (1, 2, 1)])
def test_prefix_scores_equal_the_sum_over_all_paths(prefix):
    log_probs = torch.randn(5, 4, generator=torch.Generator().manual_seed(2)).mul(2).log_softmax(-1)
    scorer = CTCPrefixScorer(torch.stack([log_probs, log_probs]), torch.tensor([5, 3]), eos=3)
    state = scorer.start()
    for token in prefix:
        state = scorer.advance(state, torch.tensor([token, token]))
    scores = scorer.score(state).exp()
    for row, steps in enumerate((5, 3)):
        for character in (1, 2):
            total, _ = all_paths(log_probs[:steps, :], (*prefix, character))
            assert float(scores[row, character]) == pytest.approx(total, abs=1e-6)
        _, whole = all_paths(log_probs[:steps, :], prefix)
        assert float(scores[row, 3]) == pytest.approx(whole, abs=1e-6)


def test_the_length_bonus_lengthens(model):
    m = encode(model)
    short = search(m, replace(PLAIN, beam=8, length_bonus=-2.0))
    long = search(m, replace(PLAIN, beam=8, length_bonus=2.0))
    assert sum(len(h[0].tokens) for h in long) > sum(len(h[0].tokens) for h in short)


def test_the_end_threshold_delays_the_end(model):
    m = encode(model)
    free = search(m, replace(PLAIN, beam=8))
    strict = search(m, replace(PLAIN, beam=8, eos_threshold=0.5))
    assert sum(len(h[0].tokens) for h in strict) > sum(len(h[0].tokens) for h in free)


def test_coverage_favours_attention_to_all_steps(model):
    m = encode(model)
    for threshold, weight in ((0.1, 3.0),):
        config = replace(PLAIN, beam=8, coverage_weight=weight, coverage_threshold=threshold)
        seen = [(h[0].attention.sum(0) > threshold).sum() for h in search(m, config)]
        plain = [
            (h[0].attention.sum(0) > threshold).sum() for h in search(m, replace(PLAIN, beam=8))
        ]
        assert sum(seen) > sum(plain)


def test_nbest_is_sorted_and_distinct(model):
    for found in search(encode(model), DecodeConfig(beam=6, nbest=4)):
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        assert len({h.tokens for h in found}) == len(found) > 1


def test_the_limit_cuts_off(model):
    with torch.no_grad():
        model.decoder.readout.bias[EOS] = -100.0
    m = encode(model)
    for found, one in zip(beam_search(m, PLAIN), greedy(m.model, m), strict=True):
        assert not found[0].ended and not one.ended
        assert found[0].tokens == one.tokens
        assert len(one.tokens) == max(4, one.attention.shape[1])


@pytest.fixture
def decoder_says(monkeypatch):
    """Sets the log-probabilities of the first character and of all others."""
    original = DecoderSession.step
    monkeypatch.setattr(native, "usable", lambda *_: False)

    def say(first, after):
        def step(self, tokens, state, rows):
            _, *others = original(self, tokens, state, rows)
            start = (tokens == EOS).unsqueeze(1)
            return torch.where(start, torch.tensor(first), torch.tensor(after)), *others

        monkeypatch.setattr(DecoderSession, "step", step)

    return say


def test_a_bonus_may_still_make_up_for_a_costly_start(model, decoder_says):
    """The first character costs 30 and each has a bonus of 9: only the longest transcript pays."""
    decoder_says([-30.0, -30.0, -30.0, -30.0, 0.0], [-30.0, -30.0, -0.1, -3.0, -3.0])
    config = replace(PLAIN, beam=400, length_bonus=9.0, end_margin=0.0)
    best = search(encode(model, (9,)), config)[0][0]
    assert best.tokens[1:] == (2, 2, 2)  # the longest transcript: 9 frames allow 4 characters
    assert best.score == pytest.approx(-30.0 - 3 * 0.1 - 3.0 + 4 * 9.0, abs=1e-4)
    # after one character the open hypotheses are at -21, the empty transcript at 0
    for margin, tokens in ((20.9, ()), (21.1, best.tokens)):
        assert (
            search(encode(model, (9,)), replace(config, end_margin=margin))[0][0].tokens == tokens
        )


def test_a_negative_bonus_does_not_end_a_search_early(model, decoder_says):
    """The end costs 3 at first, and nothing after one character, which costs 1 + 1."""
    decoder_says([-99.0, -99.0, -1.0, -99.0, -3.0], [-99.0, -99.0, -99.0, -99.0, 0.0])
    config = replace(PLAIN, beam=4, length_bonus=-1.0)
    assert search(encode(model, (9,)), config)[0][0].tokens == (2,)


def long_ctc():
    """Log-probabilities of 250 steps as sharp as a trained head's, and 60 characters."""
    generator = torch.Generator().manual_seed(4)
    log_probs = torch.randn(2, 250, 30, generator=generator).mul(6).log_softmax(-1)
    tokens = torch.randint(1, 29, (60, 2), generator=generator)
    tokens[7] = tokens[6]  # the same character twice
    return log_probs, torch.tensor([250, 190]), tokens


def test_long_prefix_scores_equal_ctc_loss_and_add_up():
    """The probability of a prefix is the sum of those of its extensions and its end."""
    log_probs, steps, tokens = long_ctc()
    log_probs[..., 29] = -1e4  # no transcript contains <sos/eos>
    log_probs = log_probs.double().log_softmax(-1)
    scorer = CTCPrefixScorer(log_probs, steps, eos=29)
    state, before = scorer.start(), torch.zeros(2, dtype=torch.float64)
    for token in tokens:
        scores = scorer.score(state)
        torch.testing.assert_close(scores.logsumexp(1), before, atol=1e-6, rtol=1e-9)
        before = scores.gather(1, token.unsqueeze(1)).squeeze(1)
        state = scorer.advance(state, token)
    loss = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1),
        tokens.t(),
        steps,
        torch.tensor([60, 60]),
        reduction="none",
    )
    torch.testing.assert_close(scorer.score(state)[:, 29], -loss, atol=1e-3, rtol=1e-6)


def test_hypotheses_of_an_utterance_share_its_probabilities():
    """Three hypotheses side by side score as each would alone, also after one utterance left."""
    log_probs, steps, tokens = long_ctc()
    wide = CTCPrefixScorer(log_probs, steps, eos=29, width=3)
    state = wide.start()
    for row in tokens[:9].repeat_interleave(3, dim=1) % torch.arange(2, 8) + 1:
        state = wide.advance(state, row)
    rows = torch.tensor([3, 4, 5])
    second = wide.select(torch.tensor([1]), steps[[1]])
    left = second.score(state.select(rows, 190))
    torch.testing.assert_close(left, wide.score(state)[rows])
    for row in rows.tolist():
        alone = CTCPrefixScorer(log_probs[1:, :190], steps[1:], eos=29)
        one = alone.score(state.select(torch.tensor([row]), 190))
        torch.testing.assert_close(one[0], left[row - 3])


def test_cut_off_hypotheses_are_scored_like_the_others(model):
    with torch.no_grad():
        model.decoder.readout.bias[EOS] = -1e4
    config = DecodeConfig(
        beam=4, nbest=4, ctc_weight=0.3, length_bonus=0.5, eos_threshold=0.01, max_ratio=0.5
    )
    for found in search(encode(model, (40, 25)), config):
        assert not any(h.ended for h in found)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for h in found:
            parts = 0.7 * h.scores["decoder"] + 0.3 * h.scores["ctc"] + 0.5 * len(h.tokens)
            assert h.score == pytest.approx(parts, abs=1e-3)
            assert h.attention.shape[0] == len(h.tokens)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam", 0),
        ("nbest", 0),
        ("batch", -1),
        ("ctc_weight", 1.5),
        ("lm_weight", -0.1),
        ("lm_share", 1.0),
        ("oov_penalty", -1),
        ("max_ratio", 0),
        ("eos_threshold", -1.0),
        ("length_bonus", math.nan),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(InputError, match=f"{name} = {value}, expected"):
        replace(PLAIN, **{name: value})


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("beam", [1, 4])
def test_characters_have_log_probabilities(model, beam, ctc_weight):
    m = encode(model, (40, 31, 25, 17, 9))
    found = search(m, DecodeConfig(beam=beam, nbest=beam, ctc_weight=ctc_weight))
    for row, hypotheses in enumerate(found):
        one = m.select([row])
        for h in hypotheses:
            characters = torch.tensor([*h.tokens, EOS])
            inputs = torch.tensor([[EOS, *h.tokens]])
            logits, _ = model.decoder(inputs, torch.tensor([inputs.shape[1]]), one.memory)
            expected = logits[0].log_softmax(-1).gather(1, characters.unsqueeze(1)).squeeze(1)
            count = len(h.tokens) + h.ended
            torch.testing.assert_close(
                torch.tensor(h.log_probs), expected[:count], atol=1e-4, rtol=0
            )
            assert sum(h.log_probs) == pytest.approx(h.scores["decoder"], abs=1e-4)


class Favourite(Scorer):
    """A bonus for every second occurrence of a character."""

    name, weight = "favourite", 3.0

    def start(self, encoded, width):
        return encoded.array(np.zeros(len(encoded.steps) * width))  # its occurrences so far

    def step(self, step, state):
        count = state[step.rows] + (step.tokens == 2)
        scores = np.zeros_like(step.log_probs)
        scores[:, 2] = 1 - count % 2
        return scores, count

    def select(self, state, rows, encoded):
        return state[rows]

    def bound(self, score, left, steps):
        return self.weight * left


def test_a_new_scorer_is_one_class(model):
    m = encode(model)
    config = DecodeConfig(beam=8, nbest=3, end_margin=0)
    plain, liked = search(m, config), beam_search(m, config, Favourite())
    assert sum(h[0].tokens.count(2) for h in liked) > sum(h[0].tokens.count(2) for h in plain)
    for h in itertools.chain.from_iterable(liked):
        assert h.scores["favourite"] == (h.tokens.count(2) + 1) // 2
        others = 0.7 * h.scores["decoder"] + 0.3 * h.scores["ctc"]
        assert h.score == pytest.approx(others + 3.0 * h.scores["favourite"], abs=1e-3)


def covered_by_hand(model, m, tokens, threshold):
    inputs = torch.tensor([[EOS, *tokens]])
    weights = model.decoder(inputs, torch.tensor([inputs.shape[1]]), m.memory)[1]
    return int((weights[0].sum(0) > threshold).sum())


def end_allowed(model, m, tokens, threshold):
    inputs = torch.tensor([[EOS, *tokens]])
    logits = model.decoder(inputs, torch.tensor([inputs.shape[1]]), m.memory)[0][0, -1]
    log_probs = logits.log_softmax(-1)
    return log_probs[EOS] >= threshold * log_probs[1:EOS].max()


@torch.no_grad()
def test_a_wide_beam_is_exhaustive_with_all_scorers(model, lm):
    symbols = CharTokenizer(["<blank>", "<unk>", "<space>", "A", "<sos/eos>"])
    hotwords = HotWords({(3, 3): 0.9}, symbols)
    config = DecodeConfig(
        beam=400,
        nbest=5,
        ctc_weight=0.3,
        length_bonus=0.3,
        lm_weight=0.7,
        coverage_weight=0.4,
        coverage_threshold=0.6,
        eos_threshold=1.5,
        end_margin=0,
    )
    m = encode(model, (9,))
    every = {}
    for tokens in (t for n in range(5) for t in itertools.product((1, 2, 3), repeat=n)):
        if end_allowed(model, m, tokens, 1.5):
            words = "".join(" A?"[(2, 3, 1).index(c)] for c in tokens).split(" ")
            every[tokens] = (
                score_by_hand(model, m, tokens, config, lm)
                + 0.4 * covered_by_hand(model, m, tokens, 0.6)
                + 0.9 * 2 * words.count("AA")
            )
    best = sorted(every, key=every.__getitem__, reverse=True)
    found = search(m, config, lm, hotwords)[0]
    assert [h.tokens for h in found] == best[:5]
    weights = {s.name: s.weight for s in make_scorers(EOS, config, lm, hotwords)}
    assert [*weights] == ["decoder", "ctc", "lm", "hotwords", "length", "coverage", "eos"]
    for h in found:
        assert h.score == pytest.approx(every[h.tokens], abs=1e-3)
        assert h.score == pytest.approx(
            sum(weights[name] * score for name, score in h.scores.items()), abs=1e-4
        )
        assert h.scores["length"] == len(h.tokens)
        assert h.scores["coverage"] == covered_by_hand(model, m, h.tokens, 0.6)


ALL = DecodeConfig(
    beam=6,
    nbest=3,
    ctc_weight=0.3,
    length_bonus=0.3,
    lm_weight=0.7,
    coverage_weight=0.4,
    coverage_threshold=0.6,
    eos_threshold=5.0,
)


@pytest.mark.parametrize("config", [ALL, PLAIN, replace(PLAIN, beam=300)])
def test_numpy_and_torch_find_the_same(model, lm, config):
    """Tensors as on a GPU, but on the CPU."""
    symbols = CharTokenizer(["<blank>", "<unk>", "<space>", "A", "<sos/eos>"])
    hotwords, m = HotWords({(3, 3): 0.9}, symbols), encode(model, (40, 25, 31, 9))
    ours = search(m, config, lm, hotwords)
    m = encode(model, (40, 25, 31, 9))
    m.model.numpy = False
    hotwords.bonuses, hotwords.next_nodes = map(
        torch.from_numpy, (hotwords.bonuses, hotwords.next_nodes)
    )
    theirs = search(m, config, lm, hotwords)
    for a, b in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert a.tokens == b.tokens and a.ended == b.ended
        assert a.score == pytest.approx(b.score, rel=1e-6)
        assert a.scores == pytest.approx(b.scores, rel=1e-6)
        np.testing.assert_allclose(a.attention, b.attention, atol=1e-6)


@pytest.mark.parametrize("without", [(), ("native",)])
@pytest.mark.parametrize(("beam", "utterance"), [(1, 1), (4, 1), (4, 2)])
def test_scores_that_overflow_are_refused(model, monkeypatch, beam, utterance, without):
    """All weights are finite; logits are not."""
    if without:
        monkeypatch.setattr(native, "usable", lambda *_: False)
    with torch.no_grad():
        if utterance == 1:
            model.decoder.readout.weight.fill_(1e38)
        m = encode(model, (25, 9))
        if utterance == 2:  # the first one is intact
            m.memory.values[1].fill_(math.nan)
    with pytest.raises(InputError, match=f"utterance {utterance} of 2 .* score of decoder is nan"):
        search(m, replace(PLAIN, beam=beam))


def test_a_search_whose_scores_all_become_infinite_is_refused(model):
    """<blank> has all the probability, and no text may contain it."""
    with torch.no_grad():
        model.decoder.readout.bias.fill_(-3e38)
        model.decoder.readout.bias[BLANK] = 0.0
        model.decoder.readout.bias[EOS] = -torch.finfo(torch.float32).max
    m = encode(model, (25, 9))
    with pytest.raises(InputError, match=r"utterance 1 of 2 .* no text has a finite score"):
        beam_search(m, PLAIN)
    model.decoder.readout.weight.data.fill_(math.inf)
    with pytest.raises(InputError, match=r"utterance 1 of 2 .* score of decoder is"):
        search(encode(model, (25, 9)), PLAIN)
