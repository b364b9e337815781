import pytest

from asr.errors import InputError
from asr.text.normalize import NORMALIZERS, apply_map, find_normalizer, read_map


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
def test_lines_that_are_no_rule(tmp_path, line, message):
    path = tmp_path / "map"
    path.write_text(f"ok => okay\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_map(path)
