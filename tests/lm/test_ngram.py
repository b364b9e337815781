"""N-grams of ARPA files by hand, and damaged files."""

import gzip
import math

import numpy as np
import pytest

from asr.errors import InputError
from asr.lm.arpa import DEFAULT_UNKNOWN, read_arpa, write_arpa
from asr.lm.ngram import NGram

# p(B|A) is listed, p(C|A) backs off; A B -> C is a trigram
TEXT = """\
made by hand

\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-0.6\tA\t-0.3
-0.7\tB\t-0.2
-0.8\tC

\\2-grams:
-0.2\t<s> A
-0.1\tA B\t-0.4
-0.9 B C

\\3-grams:
-0.05\tA B C

\\end\\
"""


@pytest.fixture
def arpa(tmp_path):
    (tmp_path / "a.arpa").write_text(TEXT)
    return read_arpa(tmp_path / "a.arpa")


def model(arpa):
    return NGram(arpa, arpa.words)


def sentence(ngram, words):
    """log10 of every word's probability, one after another."""
    history, found = np.array([ngram.start]), []
    for word in words:
        log_prob, history = ngram.log_probs(history, np.array([ngram.ids[word]]))
        found.append(log_prob.item() / math.log(10))
    return found


def test_probabilities_by_hand(arpa):
    """Listed; listed; the trigram; C has no back-off weight; C again, then the end."""
    found = sentence(model(arpa), ["A", "B", "C", "C", "</s>"])
    assert found == pytest.approx([-0.2, -0.1, -0.05, -0.8, -1.0])
    # <s> B: -0.5 - 0.7; B B: -0.2 - 0.7; <s> A B A: backs off from A B, from B, to A
    assert sentence(model(arpa), ["B", "B"]) == pytest.approx([-1.2, -0.9])
    assert sentence(model(arpa), ["A", "B", "A"])[2] == pytest.approx(-0.4 - 0.2 - 0.6)


def test_sums_over_ranges_are_sums_over_words(arpa):
    ngram = model(arpa)
    V, histories = len(ngram.words), len(ngram._shorter)
    every = np.arange(V)
    for history in range(histories):
        probs = np.exp(ngram.log_probs(np.full_like(every, history), every)[0])
        for first in range(V):
            for beyond in range(first, V + 1):
                found = ngram.range_probs(*(np.array([x]) for x in (history, first, beyond)))
                assert found.item() == pytest.approx(float(probs[first:beyond].sum()), abs=1e-12)


def test_another_order_of_the_words_changes_nothing(arpa):
    other = NGram(arpa, sorted(arpa.words, reverse=True))
    words = ["A", "B", "C", "A", "B", "B", "</s>"]
    assert sentence(other, words) == pytest.approx(sentence(model(arpa), words))


def test_files_without_unk_get_a_default_probability(arpa):
    assert sentence(model(arpa), ["C", "<unk>"])[1] == pytest.approx(DEFAULT_UNKNOWN)


def test_a_word_may_have_a_no_break_space(tmp_path):
    (tmp_path / "a.arpa").write_text(
        TEXT.replace("\tC", "\tC\u00a0D").replace("B C", "B  C\u00a0D")
    )
    ngram = model(read_arpa(tmp_path / "a.arpa"))
    assert sentence(ngram, ["A", "B", "C\u00a0D"])[2] == pytest.approx(-0.05)


@pytest.mark.parametrize("name", ["b.arpa", "b.arpa.gz"])
def test_files_are_read_as_they_were_written(arpa, tmp_path, name):
    write_arpa(arpa, tmp_path / name)
    again = read_arpa(tmp_path / name)
    assert again.words == arpa.words
    for one, other in zip(again.orders, arpa.orders, strict=True):
        np.testing.assert_array_equal(one.words, other.words)
        np.testing.assert_allclose(one.log_probs, other.log_probs)
        np.testing.assert_allclose(one.backoffs, other.backoffs)
    if name.endswith(".gz"):
        assert gzip.decompress((tmp_path / name).read_bytes()).startswith(b"\\data\\")


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.arpa").write_text("\ufeff" + TEXT, encoding="utf-8")
    assert "<s>" in read_arpa(tmp_path / "a.arpa").words


def test_unk_in_upper_case(tmp_path):
    text = TEXT.replace("-0.8\tC", "-0.8\t<UNK>").replace("B C", "B <UNK>")
    (tmp_path / "a.arpa").write_text(text)
    assert "<unk>" in read_arpa(tmp_path / "a.arpa").words


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TEXT, "", r":1: found \"the end of the file\""),
        (TEXT, "A B\nC\n", r":3: found \"the end of the file\""),
        ("ngram 1=5", "ngram 1=many", r':4: found "ngram 1=many", expected "ngram 1=<count>"'),
        ("ngram 1=5", "ngram 1=\u00b2", r':4: found "ngram 1=\u00b2"'),
        ("ngram 2=3", "ngram 3=3", r':5: .* expected "ngram 2=<count>"'),
        ("ngram 1=5", "ngram 1=6", r":15: 5 1-grams since line 8, expected 6"),
        ("-1.0\t</s>", "-1.0\t</s>\t0\t0", r":10: .*4 fields, expected <log10> and 1 word, opt"),
        ("-1.0\t</s>", "one\t</s>", r":10: .*expected numbers around the words"),
        ("-1.0\t</s>", "1.0\t</s>", r":10: .*which is 0 or less"),
        ("-1.0\t</s>", "nan\t</s>", r":10: .*which is 0 or less"),
        ("-0.6\tA\t-0.3", "-0.6\tA\t400", r":11: .*back-off weight, at most 30"),
        ("-0.6\tA\t-0.3", "-0.6\tA\tnan", r":11: .*back-off weight, at most 30"),
        ("-0.9 B C", "-0.9 B D", r":18: .*'D' is not among the 1-grams"),
        ("-0.7\tB", "-0.7\tA", r":12: .*every word once"),
        ("\\2-grams:", "\\4-grams:", r':15: .*expected "\\2-grams:"'),
        ("\n\\end\\\n", "", r"the file is cut short"),
        ("</s>", "</t>", r"</s> is not among the 1-grams"),
    ],
)
def test_damaged_files(tmp_path, old, new, message):
    (tmp_path / "a.arpa").write_text(TEXT.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_arpa(tmp_path / "a.arpa")


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "a.arpa"
    with pytest.raises(InputError, match="No such file"):
        read_arpa(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_arpa(path)
    path.write_bytes(gzip.compress(TEXT.encode())[:80])
    with pytest.raises(InputError, match="cannot read"):
        read_arpa(path)
    path.write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(InputError, match="cannot read"):
        read_arpa(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-0.1\tA B\t-0.4", "-0.1\tA C\t-0.4", "1 3-grams begin with words that are no 2-gram"),
        ("-0.9 B C", "-0.9 A B", "2-grams that are listed twice"),
    ],
)
def test_inconsistent_n_grams(tmp_path, old, new, message):
    (tmp_path / "a.arpa").write_text(TEXT.replace(old, new))
    with pytest.raises(InputError, match=message):
        model(read_arpa(tmp_path / "a.arpa"))


def test_an_order_without_n_grams(tmp_path):
    """Without trigrams, C after A B backs off to C after B."""
    bigrams = TEXT.split("\\3-grams:\n")[0].replace("ngram 3=1", "ngram 3=0")
    (tmp_path / "a.arpa").write_text(bigrams + "\\3-grams:\n\n\\end\\\n")
    found = model(read_arpa(tmp_path / "a.arpa"))
    assert sentence(found, ["A", "B", "C"])[2] == pytest.approx(-0.4 - 0.9)
