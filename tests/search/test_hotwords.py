"""Hot words: bonuses by hand, and their effect on a search."""

import itertools

import numpy as np
import pytest
import torch

from asr.config import DecodeConfig
from asr.errors import InputError
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.search.beam import search
from asr.search.hotwords import HotWords, load_hotwords
from asr.text.tokenizer import CharTokenizer

TOKENS = CharTokenizer.from_texts(["ABCN "])


def hot(**words):
    """Hot words by their texts; _ is a space."""
    spelled = {tuple(TOKENS.encode(w.replace("_", " "))): weight for w, weight in words.items()}
    return HotWords(spelled, TOKENS)


def bonus(words, text, *, ended=True):
    """Return the bonus of a text, summed over its characters and its end."""
    state, gains = words.start(1), []
    row, last = np.zeros(1, int), TOKENS.eos_id
    for token in [*TOKENS.encode(text), *([TOKENS.eos_id] if ended else [])]:
        scores, state = words.step(np.array([last]), state, row)
        gains.append(float(scores[0, token]))
        last = token
    return sum(gains)


def test_each_character_adds_the_weight_and_a_complete_word_keeps_it():
    words = hot(ABC=2.0)
    assert [bonus(words, "ABC"[:n], ended=False) for n in range(4)] == [0, 2, 4, 6]
    assert bonus(words, "ABC") == bonus(words, "N ABC") == bonus(words, "ABC N") == 6
    assert bonus(words, "ABC ABC") == 12


@pytest.mark.parametrize("text", ["AB", "ABN", "ABCA", "NABC", "AB C", "N", "", "ABC"[:2] + " ABN"])
def test_other_words_earn_nothing(text):
    assert bonus(hot(ABC=2.0), text) == 0


def test_words_that_begin_alike():
    words = hot(AB=1.0, ABC=3.0)
    assert bonus(words, "AB", ended=False) == 6  # it may become the heavier one
    assert bonus(words, "AB") == 2 and bonus(words, "ABC") == 9 and bonus(words, "ABN") == 0


def test_phrases():
    words = hot(A_B=1.0, A=1.0, BC=2.0)
    assert bonus(words, "A B") == 3 + 1  # the phrase and its first word
    assert bonus(words, "A N") == 1
    assert bonus(words, "A BC") == 1 + 4  # two hot words instead of the phrase
    assert bonus(words, "A BN") == 1
    assert bonus(words, "A A B") == 1 + 3 + 1


def test_phrases_that_overlap():
    words = hot(A_B=1.0, B_C=2.0)
    assert bonus(words, "A B N") == bonus(words, "A B CN") == 3
    assert bonus(words, "A B C") == 3 + 6


def test_the_bonus_of_a_text_is_that_of_its_hot_words():
    words = {"A": 0.5, "AB": 1.0, "B A": 2.0, "A B A": 0.25, "BB A": 1.5}
    tables = hot(**{w.replace(" ", "_"): weight for w, weight in words.items()})

    for length in range(7):
        for letters in itertools.product("AB ", repeat=length):
            text = "".join(letters)
            parts = text.split(" ")
            pairs = itertools.combinations(range(len(parts) + 1), 2)
            phrases = [" ".join(parts[begin:end]) for begin, end in pairs]
            total = sum(words.get(phrase, 0.0) * len(phrase) for phrase in phrases)
            assert bonus(tables, text) == pytest.approx(total), text


def test_a_heavier_word_that_begins_like_the_next_one_does_not_end_a_phrase():
    words = hot(A_BAB=0.5, BC=3.0)
    assert bonus(words, "A BAB") == 2.5 and bonus(words, "A BC") == 6 and bonus(words, "A B") == 0


def test_a_file_of_hot_words(tmp_path):
    path = tmp_path / "hot.txt"
    path.write_text("AB\n\u200b\n\nA \u200b B\t0.5\n", encoding="utf-8")
    words = load_hotwords(path, 2.0, TOKENS)
    assert bonus(words, "AB") == 4 and bonus(words, "A B") == 1.5
    assert len(words.values) == 2  # no hot word of invisible characters alone


def test_hot_words_are_spelled_as_the_model_spells(tmp_path):
    tokens = CharTokenizer.from_texts(["CAF\u00c9 D'"])
    (tmp_path / "hot.txt").write_text("D\u2019CAFE\u0301\n", encoding="utf-8")
    words = load_hotwords(tmp_path / "hot.txt", 1.0, tokens)
    assert list(words.values) == [tuple(tokens.encode("D'CAF\u00c9"))]


def test_a_model_without_spaces_has_no_hot_words(tmp_path):
    (tmp_path / "hot.txt").write_text("AB\n")
    with pytest.raises(InputError, match="hot words need spaces between words"):
        load_hotwords(tmp_path / "hot.txt", 1.0, CharTokenizer.from_texts(["AB"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AB\nAx", r'hot\.txt:2: "Ax" has x, which this model does not write, expected only ABCN'),
        ("ab", "expected only ABCN; write capitals"),
        ("AB,3", "has , 3, .*; write a tab before the weight"),
        ("AB\tmuch", r'hot\.txt:1: weight "much", expected a number above 0'),
        ("AB\tnan", "expected a number above 0"),
        ("AB\t-1", "expected a number above 0"),
        ("A" * 201, r"hot\.txt:1: 201 characters, expected at most 200"),
        ("\t1", "hot.txt:1: a weight without a word"),
        ("\n", "no hot words, expected"),
        ("", "no hot words, expected"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "hot.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        load_hotwords(tmp_path / "hot.txt", 1.0, TOKENS)
    with pytest.raises(InputError):
        load_hotwords(tmp_path / "missing.txt", 1.0, TOKENS)


NOISE_FRAMES = (40, 25, 9)


@pytest.fixture
def run(tiny_config):
    """Return a function that decodes noise with a random model: a batch, or one utterance."""
    torch.manual_seed(2)
    las = LAS(tiny_config, 6, len(TOKENS)).eval()
    with torch.no_grad():
        for parameter in las.parameters():
            parameter.mul_(3.0)
    model = TorchModel(las)
    noise = torch.randn(3, max(NOISE_FRAMES), 6)

    def run(words, only=None, nbest=1):
        rows = range(len(noise)) if only is None else [only]
        frames = [NOISE_FRAMES[row] for row in rows]
        chosen = zip(noise[rows].numpy(), frames, strict=True)
        encoded = model.encode([each[:count] for each, count in chosen])
        config = DecodeConfig(beam=4, nbest=nbest, max_ratio=0.6)
        return search(model, encoded, config, hotwords=words)

    return run


def texts(found):
    return [TOKENS.decode(best[0].tokens) for best in found]


def test_a_search_finds_the_hot_word(run):
    words = hot(CAB=8.0)
    assert not any("CAB" in text.split() for text in texts(run(None)))
    assert all("CAB" in text.split() for text in texts(run(words)))


def test_the_score_includes_the_bonus(run):
    words = hot(CAB=8.0)
    for (best,) in run(words):
        plain = 0.7 * best.scores["decoder"] + 0.3 * best.scores["ctc"]
        assert best.score == pytest.approx(
            plain + bonus(words, TOKENS.decode(best.tokens)), abs=1e-3
        )


def test_hot_words_that_are_not_spoken_change_nothing(run):
    for plain, (other,) in zip(run(None), run(hot(NNNNNN=0.1)), strict=True):
        assert other.tokens == plain[0].tokens
        assert other.score == pytest.approx(plain[0].score, abs=1e-4)


def test_an_utterance_alone_and_in_a_batch(run):
    words = hot(CAB=2.0, A_B=3.0)
    together = run(words, nbest=3)
    assert texts(together) != texts(run(None))  # the words matter here
    for row, found in enumerate(together):
        (alone,) = run(words, only=row, nbest=3)
        assert [each.tokens for each in alone] == [each.tokens for each in found]
        scores = [each.score for each in found]
        assert [each.score for each in alone] == pytest.approx(scores, abs=1e-4)
