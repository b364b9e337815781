"""Kneser-Ney smoothing by hand; its probabilities sum to 1."""

import numpy as np
import pytest

from asr.commands.lm import main
from asr.errors import InputError
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.kneser_ney import _discounts, estimate
from asr.lm.ngram import NGram


def probability(arpa, words):
    """Return the listed probability of the last word after the others."""
    ids = [arpa.words.index(w) for w in words.split()]
    order = arpa.orders[len(ids) - 1]
    (row,) = np.flatnonzero((order.words == ids).all(1))
    return 10 ** order.log_probs[row]


def test_bigrams_by_hand():
    """Two sentences, A B and A C: too little to estimate discounts, so 0.5 for a count of 1, 1
    for 2, 1.5 for more.

    Continuations: A after <s>; B and C after A; </s> after B and C: 1, 1, 1 and 2 of 5. Discounts
    take 0.5 + 0.5 + 0.5 + 1 = 2.5 of 5, half; spread over A B C </s> <unk>, a tenth each.
    """
    arpa = estimate(["A B", "A C"], 2)
    assert probability(arpa, "A") == pytest.approx(0.5 / 5 + 0.1)
    assert probability(arpa, "</s>") == pytest.approx(1 / 5 + 0.1)
    assert probability(arpa, "<unk>") == pytest.approx(0.1)
    # after A: B and C once each, half of both is taken: gamma = 1/2
    assert probability(arpa, "A B") == pytest.approx(0.5 / 2 + 0.5 * 0.2)
    # after <s>: A twice, 1 is taken
    assert probability(arpa, "<s> A") == pytest.approx(1 / 2 + 0.5 * 0.2)
    row = arpa.words.index("A")
    assert 10 ** arpa.orders[0].backoffs[row] == pytest.approx(0.5)


def test_discounts_by_hand():
    """3, 2, 2 and 1 n-grams with counts of 1 to 4; one with 9, which takes no part."""
    y = 3 / (3 + 2 * 2)
    expected = [0, 1 - 2 * y * 2 / 3, 2 - 3 * y * 2 / 2, 3 - 4 * y * 1 / 2]
    assert _discounts(np.array([1, 1, 1, 2, 2, 3, 3, 4, 9])) == pytest.approx(expected)


def text():
    """A random chain with preferred successors, long enough to estimate the discounts."""
    chance = np.random.default_rng(0)
    return [
        " ".join(f"W{int(i)}" for i in np.minimum(chance.geometric(0.15, size=8), 40))
        for _ in range(300)
    ]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one(order):
    ngram = NGram(*(lambda a: (a, a.words))(estimate(text(), order)))
    every = np.arange(len(ngram.words))
    for history in range(0, len(ngram._shorter), 7):
        log_probs, _ = ngram.log_probs(np.full_like(every, history), every)
        assert float(np.exp(log_probs).sum()) == pytest.approx(1.0, abs=1e-6)


def test_n_grams_of_the_text_are_likelier():
    arpa = estimate(text(), 3)
    ngram = NGram(arpa, arpa.words)
    assert probability(arpa, "W1 W1") > probability(arpa, "W1 W9")
    words = np.array([ngram.unknown, ngram.ids["W1"]])
    unknown, seen = ngram.log_probs(ngram.start_histories(2), words)[0]
    assert -20 < unknown < seen


def test_the_command(tmp_path, capsys):
    (tmp_path / "text").write_text("u1 A B\nu2 A C\nu3\n")
    out = tmp_path / "w.arpa"
    assert main(["ngram", "--text", str(tmp_path), "--order", "2", "--out", str(out)]) == 0
    assert "2 sentences, 6 1-grams, 5 2-grams" in capsys.readouterr().out
    assert probability(read_arpa(out), "A B") == pytest.approx(0.35, rel=1e-5)
    (tmp_path / "plain").write_text("A B\n\nA C\n")
    plain = tmp_path / "p.arpa"
    arguments = ["--text", str(tmp_path / "plain"), "--plain", "--order", "2", "--out", str(plain)]
    assert main(["ngram", *arguments]) == 0
    assert plain.read_text() == out.read_text()


def test_there_are_no_n_grams_longer_than_all_sentences(tmp_path):
    arpa = estimate(["A", "B A"], 9)
    assert [len(order.log_probs) for order in arpa.orders] == [5, 4, 3, 1]
    write_arpa(arpa, tmp_path / "w.arpa")
    assert "ngram 5" not in (tmp_path / "w.arpa").read_text()


def test_bad_texts(tmp_path):
    (tmp_path / "text").write_text("u1\n")
    with pytest.raises(InputError, match="no sentences"):
        main(["ngram", "--text", str(tmp_path), "--out", str(tmp_path / "w.arpa")])
    with pytest.raises(InputError, match="--order: 0, expected 1 to 9"):
        main(["ngram", "--text", str(tmp_path), "--order", "0", "--out", "w.arpa"])
    for word in ("</s>", "<UNK>"):  # readers take <UNK> for <unk>
        with pytest.raises(InputError, match=f'the word "{word}"'):
            estimate([f"A {word} B"], 2)
