import pytest

from asr.errors import InputError
from asr.text.normalize import NORMALIZERS, find_normalizer


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
