"""Look-ahead: scores of characters sum to that of the word, never rise, and are finite."""

import itertools
import math

import numpy as np
import pytest
import torch

from asr.config import LMConfig
from asr.errors import InputError
from asr.lm.arpa import write_arpa
from asr.lm.kneser_ney import estimate
from asr.lm.lookahead import WordLM, load_word_lm
from asr.lm.ngram import NGram
from asr.lm.perplexity import sentence_log_probs
from asr.lm.prefix_tree import ROOT, PrefixTree
from asr.model.char_lm import CharLM
from asr.text.tokenizer import CharTokenizer

TOKENS = CharTokenizer.from_texts(["ABCDE "])
SENTENCES = ["A", "AB BA", "ABC A BA", "BA AB ABC", "A A AB", "BA", "ABC ABC BAD", "AB"]


def char_lm():
    torch.manual_seed(2)
    lm = CharLM(LMConfig(units=8, embedding=4), len(TOKENS)).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.mul_(2.0)
    return lm


@pytest.fixture(params=["unigrams", "character model", "mixed"])
def lm(request):
    character_lm = None if request.param == "unigrams" else char_lm()
    return WordLM(
        estimate(SENTENCES, 3), TOKENS, character_lm, share=0.4 * (request.param == "mixed")
    )


def word_by_word(arpa, sentence):
    """Log-probability of a sentence by the n-grams alone."""
    ngram, total = NGram(arpa, arpa.words), 0.0
    history = np.array([ngram.start])
    for word in [*sentence.split(), "</s>"]:
        log_prob, history = ngram.log_probs(history, np.array([ngram.ids[word]]))
        total += log_prob.item()
    return total


@pytest.mark.parametrize("character_lm", [None, char_lm()])
def test_scores_of_characters_sum_to_that_of_the_word(character_lm):
    lm = WordLM(estimate(SENTENCES, 3), TOKENS, character_lm)
    sentences = [*SENTENCES, "BAD BA", "ABC BAD ABC A", ""]
    found = sentence_log_probs(lm, [TOKENS.encode(s) for s in sentences], TOKENS.eos_id)
    expected = [word_by_word(estimate(SENTENCES, 3), s) for s in sentences]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def read(lm, text, log_probs=()):
    """Log-probabilities of the next character after each character of a text, (U + 1, V)."""
    row, found = np.array([0]), []
    state = lm.start(1)
    for token in [TOKENS.eos_id, *TOKENS.encode(text)]:
        log_probs, state = lm.step(np.array([token]), state, row)
        found.append(log_probs[0])
    return np.stack(found)


def test_look_ahead_by_hand():
    """At the beginning, what is left for A is the share of A, AB and ABC; after A, the end of
    the word has the share of A among these."""
    arpa = estimate(SENTENCES, 1)
    lm = WordLM(arpa, TOKENS, oov_penalty=100.0)  # so that unknown words do not matter
    p = {w: 10**x for w, x in zip(arpa.words, arpa.orders[0].log_probs.tolist(), strict=True)}
    a, b, c, space, end = *TOKENS.encode("ABC "), TOKENS.eos_id
    first, after = np.exp(read(lm, "A"))
    assert float(first[a]) == pytest.approx(p["A"] + p["AB"] + p["ABC"], rel=1e-5)
    assert float(first[end]) == pytest.approx(p["</s>"], rel=1e-5)
    left = p["A"] + p["AB"] + p["ABC"]
    assert float(after[b]) == pytest.approx((p["AB"] + p["ABC"]) / left, rel=1e-5)
    assert float(after[space]) == pytest.approx(p["A"] / left * (1 - p["</s>"]), rel=1e-5)
    assert float(after[end]) == pytest.approx(p["A"] / left * p["</s>"], rel=1e-5)
    assert float(after[c]) < 1e-20


def test_probabilities_sum_to_one_at_most(lm):
    for text in ("AB BA", "E", "EDE ABCD A", "ABCDE", "A  A", " "):
        sums = np.exp(read(lm, text)).sum(1)
        assert (sums < 1 + 1e-5).all()
        assert (sums[: 1 + text.find(" ")] > 0.5).all()


def test_all_short_sentences_together_have_at_most_probability_one(lm):
    sentences = [
        "".join(characters)
        for length in range(5)
        for characters in itertools.product("AB ", repeat=length)
    ]
    found = sentence_log_probs(lm, [TOKENS.encode(s) for s in sentences], TOKENS.eos_id)
    assert 0.1 < float(np.exp(found).sum()) < 1.0


def test_unknown_words_are_spelled():
    """<unk> is spelled by the character model, which has read the sentence before."""
    arpa, character_lm = estimate(SENTENCES, 2), char_lm()
    found = read(WordLM(arpa, TOKENS, character_lm), "AB EE ")
    spelled = np.stack([read(character_lm, "AB EE "[:i])[-1] for i in range(7)]).astype(np.float64)
    e, space, end = *TOKENS.encode("E "), TOKENS.eos_id
    ends = np.logaddexp(spelled[5, space], spelled[5, end])
    by_hand = spelled[3, e] + spelled[4, e] + ends
    ngram = NGram(arpa, arpa.words)

    def after(history, word):
        log_prob, history = ngram.log_probs(history, np.array([ngram.ids[word]]))
        return log_prob.item(), history

    def goes_on(history):
        return math.log1p(-math.exp(after(history, "</s>")[0]))

    _, history = after(np.array([ngram.start]), "AB")
    unknown, following = after(history, "<unk>")
    # scores after the space: of what is left when AB was not the end; EE is not the end either
    expected = unknown + float(by_hand) + goes_on(following) - goes_on(history)
    total = float(found[3, e] + found[4, e] + found[5, space])
    assert total == pytest.approx(expected, abs=1e-4)


def test_the_character_lm_may_have_a_share_in_known_words():
    """By hand for a sentence of one word: the probabilities of both models."""
    arpa, character_lm, a = estimate(SENTENCES, 2), char_lm(), TOKENS.encode("A")[0]
    lm = WordLM(arpa, TOKENS, character_lm, share=0.3)
    found = sentence_log_probs(lm, [[a]], TOKENS.eos_id)
    spelled = np.exp(read(character_lm, "A").astype(np.float64))
    spelling = float(spelled[0, a] * (spelled[1, TOKENS.eos_id] + spelled[1, lm.space]))
    ngram, start = NGram(arpa, arpa.words), np.array([NGram(arpa, arpa.words).start])
    word, history = ngram.log_probs(start, np.array([ngram.ids["A"]]))
    none, _ = ngram.log_probs(start, np.array([ngram.end]))
    last, _ = ngram.log_probs(history, np.array([ngram.end]))
    mixed = 0.7 * np.exp(word).item() + 0.3 * (1 - np.exp(none).item()) * spelling
    assert found.item() == pytest.approx(math.log(mixed) + last.item(), abs=1e-4)


def test_the_penalty_of_unknown_words():
    arpa = estimate(SENTENCES, 2)
    texts = [TOKENS.encode(t) for t in ("AB", "EE", "EE AB EE")]
    free, costly = (
        sentence_log_probs(WordLM(arpa, TOKENS, None, penalty), texts, TOKENS.eos_id)
        for penalty in (0.0, 2.5)
    )
    assert (free - costly).tolist() == pytest.approx([0.0, 2.5, 5.0], abs=1e-4)


def test_rows_are_independent(lm):
    """A row may extend any row, beside others or alone."""
    texts = ["AB B", "EE A", "A"]
    state, row = lm.start(3), np.arange(3)
    _, state = lm.step(np.full(3, TOKENS.eos_id), state, row)
    for column in zip(*(TOKENS.encode(t.ljust(4, "A")) for t in texts), strict=True):
        log_probs, state = lm.step(np.array(column, np.int32), state, row)
    for i, text in enumerate(texts):
        np.testing.assert_allclose(
            log_probs[i], read(lm, text.ljust(4, "A"))[-1], rtol=1e-5, atol=1e-6
        )
    picked = lm.select(state, np.array([2, 0, 0]))
    a, b = TOKENS.encode("AB")
    one, _ = lm.step(np.array([a, b, a]), picked, row)
    other, _ = lm.step(np.array([a, b, a]), state, np.array([2, 0, 0]))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one[1], read(lm, texts[0] + "B")[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [None, 0.4])
def test_torch_tensors_give_the_same_as_numpy_arrays(share, monkeypatch):
    """On a GPU all arrays are tensors; here they are tensors on the CPU."""
    character_lm = None if share is None else char_lm()

    def scores(kind):
        lm = WordLM(estimate(SENTENCES, 3), TOKENS, character_lm, share=share or 0.0)
        state, found = lm.start(4), []
        for token in [TOKENS.eos_id, *TOKENS.encode("AB BE A")]:
            rows = [3, 0, 1, 1]
            log_probs, state = lm.step(kind([token] * 3 + [3]), state, kind(rows))
            found.append(log_probs)
        picked = lm.step(kind([4, 4]), lm.select(state, kind([2, 1])), kind([1, 0]))[0]
        assert all(isinstance(x, type(kind([]))) for x in [*found, picked])
        return [np.asarray(x) for x in (*found, picked)]

    expected = scores(np.array)
    monkeypatch.setattr("asr.arrays.on_device", lambda values, device: torch.from_numpy(values))
    for one, other in zip(scores(torch.tensor), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_tree_by_hand():
    """A, AB, ABC and BA, with A = 0, B = 1, C = 2."""
    tree = PrefixTree([(0,), (0, 1), (0, 1, 2), (1, 0)], vocab=3)
    a, b = tree.child(np.array([ROOT, ROOT]), np.array([0, 1])).tolist()
    ab, ba = tree.child(np.array([a, b]), np.array([1, 0])).tolist()
    (abc,) = tree.child(np.array([ab]), np.array([2])).tolist()
    assert (
        tree.child(np.array([b, abc, tree.nowhere]), np.array([1, 0, 0])).tolist()
        == [tree.nowhere] * 3
    )
    nodes = np.array([ROOT, a, b, ab, ba, abc, tree.nowhere])
    assert tree.first[nodes].tolist() == [0, 0, 3, 1, 3, 2, 0]
    assert tree.beyond[nodes].tolist() == [4, 3, 4, 3, 4, 3, 0]
    assert tree.word[nodes].tolist() == [-1, 0, -1, 1, 3, 2, -1]
    places, children = tree.every_child(np.array([abc, ROOT, tree.nowhere, a]))
    assert places.tolist() == [1, 1, 3]
    assert children.tolist() == [a, b, ab]


def test_of_two_words_with_one_spelling_the_likelier_counts():
    tokenizer = CharTokenizer.from_texts(["DON'T SAY"])
    texts = [*["DON'T"] * 5, "DON\u2019T SAY"]
    for order in (texts, texts[::-1]):
        arpa = estimate(order, 1)
        found = sentence_log_probs(
            WordLM(arpa, tokenizer), [tokenizer.encode("DON'T")], tokenizer.eos_id
        )
        assert found.tolist() == pytest.approx([word_by_word(arpa, "DON'T")], abs=1e-4)


def test_words_that_the_characters_cannot_spell(tmp_path):
    arpa = estimate(["AÉ B", "AÉ"], 2)
    assert np.isfinite(sentence_log_probs(WordLM(arpa, TOKENS), [[3]], TOKENS.eos_id)).all()
    write_arpa(estimate(["É"], 2), tmp_path / "w.arpa")
    with pytest.raises(InputError, match=r"w.arpa: 1 of 1 words, 100 % of running words, .*É"):
        load_word_lm(tmp_path / "w.arpa", TOKENS)


def test_words_in_another_case_are_refused(tmp_path):
    write_arpa(estimate(["a ab BA", "ab abc"], 2), tmp_path / "w.arpa")
    with pytest.raises(InputError, match=r'3 of 4 words, .* for example "ab"; make the n-gram'):
        load_word_lm(tmp_path / "w.arpa", TOKENS)


def test_words_that_cannot_be_spelled_are_warned_of(tmp_path, capsys):
    write_arpa(estimate(["A AB BA AB", "AB 1"], 2), tmp_path / "w.arpa")
    load_word_lm(tmp_path / "w.arpa", TOKENS)
    assert "w.arpa: 1 of 4 words" in capsys.readouterr().err
    write_arpa(estimate(SENTENCES, 2), tmp_path / "w.arpa")
    load_word_lm(tmp_path / "w.arpa", TOKENS)
    assert capsys.readouterr().err == ""


def test_words_for_a_model_without_spaces_are_refused(tmp_path):
    write_arpa(estimate(["A B"], 2), tmp_path / "w.arpa")
    with pytest.raises(InputError, match=r"w\.arpa: a word n-gram needs spaces between words"):
        load_word_lm(tmp_path / "w.arpa", CharTokenizer.from_texts(["AB"]))


def test_words_in_one_case_for_a_model_that_writes_both(tmp_path, capsys):
    write_arpa(estimate(["a ab"], 2), tmp_path / "w.arpa")
    load_word_lm(tmp_path / "w.arpa", CharTokenizer.from_texts(["Ab a B"]))
    assert "all words are lower-case, but this model writes both" in capsys.readouterr().err


def test_words_in_both_cases_are_not_warned_of(tmp_path, capsys):
    write_arpa(estimate(["a Ab"], 2), tmp_path / "w.arpa")
    load_word_lm(tmp_path / "w.arpa", CharTokenizer.from_texts(["Ab a B"]))
    assert capsys.readouterr().err == ""
