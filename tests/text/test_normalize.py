import pytest

from asr.errors import InputError
from asr.text.characters import clean
from asr.text.normalize import NORMALIZERS, apply_map, find_normalizer, fold_case, read_map


def test_none_changes_nothing():
    assert NORMALIZERS["none"](" Well -- e\u0301!\t") == " Well -- e\u0301!\t"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Quilter, the apostle", "MR QUILTER THE APOSTLE"),
        ("don\u2019t  'tis\tboys'", "DON'T 'TIS BOYS'"),
        ("well-known_facts", "WELL KNOWN FACTS"),
        ("room 101", "ROOM 101"),
        ("' \u2014 '' !", ""),
        ("e\u0301te\u0301 \u00fcber", "\u00c9T\u00c9 \u00dcBER"),
        ("co\u00adoperate never\u2060more \u200ehello\u200f", "COOPERATE NEVERMORE HELLO"),
        ("don\uff07t don\u2018t don`t \u2018so\u2019", "DON'T DON'T DON'T SO'"),
        ("k\u0131z kiz \u0130zmir", "K\u0131Z KIZ \u0130ZMIR"),
        ("Ma\u00dfe Masse", "MA\u1e9eE MASSE"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "\u0928\u092e\u0938\u094d\u0924\u0947"),
    ],
)
def test_librispeech(text, expected):
    normalize = NORMALIZERS["librispeech"]
    assert normalize(text) == expected
    assert normalize(expected) == expected


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="none, librispeech, whisper"):
        find_normalizer("kaldi")


def test_a_map_replaces_the_longest_words_first(tmp_path):
    path = tmp_path / "map"
    path.write_text(";; spellings\nok => okay\nnew york => newyork\nnew york city => nyc\nuh =>\n")
    mapping = read_map(path)
    assert apply_map("uh ok new york city is not new york", mapping) == ("okay nyc is not newyork")
    assert apply_map("new", mapping) == "new"
    # What a rule wrote is not replaced again.
    assert apply_map("a b", {("a",): ("b",), ("b",): ("a",)}) == "b a"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colour color", r'map:2: "colour color", expected "<words> => <words>"'),
        ("=> a", r"expected \"<words> => <words>\""),
        ("[colour] => color / [the] __", "without contexts"),
        ("ok => k", r"map:2: ok is mapped already"),
    ],
)
def test_invalid_map_lines(tmp_path, line, message):
    path = tmp_path / "map"
    path.write_text(f"ok => okay\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_map(path)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Turn ON", "turn on", True),
        ("k\u0131z", "kiz", False),
        ("Ma\u00dfe", "Masse", False),
        ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2", True),
        ("\u00c9TE\u0301", "e\u0301t\u00e9", True),
    ],
)
def test_case_folding_keeps_small_letters_distinct(one, other, same):
    assert (fold_case(clean(one)) == fold_case(clean(other))) is same
