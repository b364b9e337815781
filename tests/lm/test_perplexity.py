"""Perplexities by hand, and asr lm score."""

import math

import numpy as np
import pytest

from asr.commands.lm import main
from asr.errors import InputError
from asr.lm.arpa import write_arpa
from asr.lm.kneser_ney import estimate
from asr.lm.lookahead import WordLM
from asr.lm.perplexity import perplexity
from asr.text.tokenizer import CharTokenizer

TOKENS = CharTokenizer.from_texts(["ABC "])


class Coin:
    """Every character has the probability 1/2."""

    def start(self, rows):
        return None

    def step(self, tokens, state, rows):
        return np.full((len(tokens), len(TOKENS)), math.log(0.5)), None

    def select(self, state, rows):
        return None


def test_by_hand():
    """A B and its end are 4 characters and 3 words; CC with its end are 3 and 2."""
    found = perplexity(Coin(), ["A B", "CC"], TOKENS)
    assert found.log_prob == pytest.approx(7 * math.log(0.5))
    assert found.per(found.characters) == pytest.approx(2.0)
    assert found.per(found.words) == pytest.approx(2 ** (7 / 5))
    assert [x for x, _ in found.sentences] == pytest.approx([4 * math.log(0.5), 3 * math.log(0.5)])
    assert found.unknown_words is None


def test_sentences_are_scored_in_blocks_as_at_once(monkeypatch):
    monkeypatch.setattr("asr.lm.perplexity._BLOCK", 2)
    found = perplexity(Coin(), ["A", "B B", "A", "C"], TOKENS)
    counts = [2, 4, 2, 2]  # characters and the end
    assert [x for x, _ in found.sentences] == pytest.approx([n * math.log(0.5) for n in counts])


def test_unknown_words_are_counted():
    lm = WordLM(estimate(["A B", "B A"], 2), TOKENS)
    assert perplexity(lm, ["A CC B", "C"], TOKENS).unknown_words == 2


def test_words_are_known_by_their_spelling():
    """The apostrophe of the n-gram is another one; nothing spells \u00c9, though it is listed."""
    tokens = CharTokenizer.from_texts(["A'B "])
    lm = WordLM(estimate(["A\u2019B \u00c9"], 2), tokens)
    assert perplexity(lm, ["A'B", "\u00c9"], tokens).unknown_words == 1


def test_the_command(tmp_path, capsys):
    TOKENS.to_file(tmp_path / "tokens.txt")
    write_arpa(estimate(["A B"] * 20, 2), tmp_path / "w.arpa")
    (tmp_path / "plain").write_text("A B\n\nB  A\n")
    arguments = ["--word_lm", str(tmp_path / "w.arpa"), "--tokens", str(tmp_path / "tokens.txt")]
    assert main(["score", str(tmp_path / "plain"), "--plain", "--each", *arguments]) == 0
    first, second, summary = capsys.readouterr().out.splitlines()
    assert (first.split("\t")[1], second.split("\t")[1]) == ("A B", "B A")
    assert float(first.split("\t")[0]) > float(second.split("\t")[0])
    assert "2 sentences, 4 words (0 unknown), 6 characters" in summary
    (tmp_path / "other").write_text("A B A B A X\n")
    assert main(["score", str(tmp_path / "other"), *arguments]) == 0
    assert "9.1 % of the characters are not among the tokens: X" in capsys.readouterr().err
    with pytest.raises(InputError, match="no language model"):
        main(["score", str(tmp_path / "plain"), *arguments[2:]])
