import pytest
from fuzz import budget
from hypothesis import given
from hypothesis import strategies as st

from asr.text.characters import (
    changed_characters,
    clean,
    decomposed,
    invisible,
    plain_apostrophes,
    spelled_on_disk,
    visible,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("co\u00adoperate never\u2060more", "cooperate nevermore"),
        ("\u200ehello\u200f \u202bone\u202c", "hello one"),
        ("\ufeffone\x07 \u200btwo\u3164", "one two"),
        ("Auf\u200clage", "Auflage"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("\u1112\u1161\u11ab", "\ud55c"),  # Hangul jamo
        ("\u212b \uf900", "\u00c5 \u8c48"),  # the unit of length; a Chinese character coded twice
        ("m\u0302", "m\u0302"),  # has no composed form
        ("\ufb01ne \ufefb", "fine \u0644\u0627"),  # a ligature, an Arabic shape
        ("\ufdfa", "\ufdfa"),  # a phrase in one character
        ("\u2764\ufe0f \U0001f468\u200d\U0001f469", "\u2764 \U0001f468\U0001f469"),
        ("\u845b\U000e0100", "\u845b"),  # a shape of a Chinese character
        ("one\u00a0two\u2028\t", "one\u00a0two\u2028\t"),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian: mi-khaham
        "\u06f5\u200c\u0627\u0645",  # a digit and an ending
        "\u0647\u200d",  # the abbreviation of Hijri
        "\u0930\u094d\u200d\u092f",  # Marathi: eyelash r
        "\u0d05\u0d35\u0d28\u0d4d\u200d",  # Malayalam: an old chillu at the end
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",  # Sinhala: shri
    ],
)
def test_joiners_stay_where_a_script_needs_them(text):
    assert clean(text) == text
    assert not invisible(text)


@budget(200)
@given(
    st.text(
        st.characters(exclude_categories=["Cs"])
        | st.sampled_from("e\u0301\u0323\u200c\u200d\u0645")
    )
)
def test_clean_text_is_unchanged(text):
    once = clean(text)
    assert bool(decomposed(text)) == (once != visible(text))
    assert clean(once) == once == visible(once)
    assert not decomposed(once)


def test_changed_characters_are_named():
    assert changed_characters(["one", "t\u00adw\u00ado", "e\u0301", "\u200ethree"]) == (
        "2 U+00AD (SOFT HYPHEN) removed, 1 U+200E (LEFT-TO-RIGHT MARK) removed, "
        "letters of 1 texts composed (Unicode NFC)"
    )
    assert decomposed("cafe\u0301") == "\u0301"
    assert decomposed("q\u0307\u0323") == "\u0307"  # the dot below comes first
    assert changed_characters(["plain", "\u00e9t\u00e9"]) == ""


def test_apostrophes():
    assert plain_apostrophes("don\u2019t don\uff07t Hawai\u02bbi rock \u2019n\u2019") == (
        "don't don't Hawai'i rock 'n'"
    )
    assert (
        plain_apostrophes("don\u2018t don`t 5\u2032 \u2018so\u2018")
        == "don't don't 5\u2032 \u2018so\u2018"
    )


@pytest.mark.parametrize("path", ["e\u0301/a.wav", "e\u0301/\u00e9.wav", "plain/b.wav"])
def test_a_name_is_found_in_either_form(tmp_path, path):
    file = tmp_path / path
    file.parent.mkdir()
    file.touch()
    for form in (path, path.replace("e\u0301", "\u00e9"), path.replace("\u00e9", "e\u0301")):
        assert spelled_on_disk(f"{tmp_path}/{form}") == str(file)


@pytest.mark.parametrize("path", ["", "\u00e9", "/nowhere/\u00e9.wav", "\u00e9\0", "\u00e9" * 5000])
def test_a_missing_path_is_unchanged(path):
    assert spelled_on_disk(path) == path
