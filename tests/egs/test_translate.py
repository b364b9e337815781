"""The second language of mini_translation: every bundled sentence has one translation."""

from pathlib import Path

import pytest

from asr.corpus.tables import read_table, write_table
from asr.corpus.validate import validate
from asr.errors import InputError

MINI = Path(__file__).resolve().parents[2] / "data" / "mini"
SENTENCES = sorted(
    line.split(maxsplit=1)[1]
    for path in MINI.glob("*/*/*/*.trans.txt")
    for line in path.read_text().splitlines()
)
GOLDEN = {
    "SET A TIMER FOR FORTY FIVE MINUTES IN THE KITCHEN": "KULU NE TIKI KIN FARDA PU HORLO POSA",
    "BUY SIX EGGS AND RICE ON MONDAY MORNING": "MANA LUNDO SUR OVI HESI KE RISU KOPA",
    "CALL PETER AND ANNA TOMORROW AT SEVEN THIRTY": "DEMI TRIDA ZEBE VO PETER KE ANNA TELA",
    "TELL JULIA I WILL BE TEN MINUTES LATE": "MI TIKI DEK TARD ESA VIL JULIA DIRA",
    "REMIND ME TO WASH THE CAR AND BUY MILK": "OTU LAVA KE LEKO KOPA AL MO MEMORA",
    "WHEN IS MY NEXT MEETING WITH THE DENTIST": "DENTU KUN GRUPO SEKVE MEA KIAM STA",
    "WHAT IS ON MY SHOPPING LIST TONIGHT": "NOTI LISTU BAZARE MEA SUR KIO STA",
}


ARTICLES = {"A", "AN", "THE"}


@pytest.fixture
def translator(load_script):
    return load_script("mini_translation/local/translate.py")


@pytest.mark.parametrize("english", GOLDEN)
def test_golden_examples(translator, english):
    assert translator.translate(english) == GOLDEN[english]


def test_every_bundled_sentence_has_one_translation(translator):
    assert len(SENTENCES) == 1122
    for sentence in SENTENCES:
        words = sentence.split()
        parses = [p for end, p in translator.parse("sentence", words, 0) if end == len(words)]
        assert len(parses) == 1, sentence
        said = [n for n, word in enumerate(words) if word not in ARTICLES]
        assert sorted(parses[0]) == said, sentence


def test_words_are_translated_one_to_one(translator):
    used = {word for sentence in SENTENCES for word in sentence.split()} - ARTICLES
    assert used == set(translator.WORDS)
    assert len(set(translator.WORDS.values())) == len(translator.WORDS)


def test_words_move(translator):
    """In more than half of the sentences, a word moves three places or more; articles vanish."""
    furthest = []
    for sentence in SENTENCES:
        words = sentence.split()
        said = [n for n, word in enumerate(words) if word not in ARTICLES]
        moves = [abs(said.index(n) - place) for place, n in enumerate(translator.order(words))]
        furthest.append(max(moves))
    share = sum(move >= 3 for move in furthest) / len(furthest)
    assert round(share, 3) == 0.99 and sum(furthest) / len(furthest) > 6


def test_another_sentence_is_refused(translator):
    with pytest.raises(InputError, match="OPEN THE CAR: not a sentence of the grammar"):
        translator.translate("OPEN THE CAR")


def test_data_directory(translator, tmp_path):
    english, other = tmp_path / "english", tmp_path / "other"
    english.mkdir()
    texts = {f"s-{n}": sentence for n, sentence in enumerate(GOLDEN)}
    write_table(english / "text", texts)
    write_table(
        english / "wav.scp", dict.fromkeys(texts, str(MINI / "dev-mini/2001/1/2001-1-0000.opus"))
    )
    write_table(english / "utt2spk", dict.fromkeys(texts, "s"))
    write_table(english / "spk2utt", {"s": " ".join(texts)})
    assert translator.main([str(english), str(other)]) == 0
    assert validate(other) == []
    assert list(read_table(other / "text").values()) == list(GOLDEN.values())
    assert read_table(other / "wav.scp") == read_table(english / "wav.scp")
    assert translator.main([]) == 2


def test_segments_are_kept_and_a_directory_without_texts_is_refused(translator, tmp_path):
    english, other = tmp_path / "english", tmp_path / "other"
    english.mkdir()
    write_table(english / "wav.scp", {"r": str(MINI / "dev-mini/2001/1/2001-1-0000.opus")})
    write_table(english / "segments", {"s-0": "r 0.0 1.0"})
    for table, names in (("utt2spk", {"s-0": "s"}), ("spk2utt", {"s": "s-0"})):
        write_table(english / table, names)
    with pytest.raises(InputError, match="text"):
        translator.main([str(english), str(other)])
    write_table(english / "text", {"s-0": next(iter(GOLDEN))})
    assert translator.main([str(english), str(other)]) == 0
    assert validate(other) == []
    assert read_table(other / "segments") == {"s-0": "r 0.0 1.0"}
