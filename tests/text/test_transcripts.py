import pytest

from asr.errors import InputError
from asr.text.transcripts import parse_text, parse_trn, read_lines, trn_id


def test_only_a_line_feed_ends_a_line(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("\ufeffa one\u2028two\r\nb\x0bthree".encode())
    assert read_lines(path) == ["a one\u2028two", "b\x0bthree"]


def test_carriage_returns_end_lines_without_line_feeds(tmp_path):
    (tmp_path / "mac").write_bytes(b"one\rtwo\r")
    assert read_lines(tmp_path / "mac") == ["one", "two"]


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a one\nb caf\xe9\n")
    with pytest.raises(InputError, match=r"text:2: byte 0xe9 is not UTF-8"):
        read_lines(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named(tmp_path, encoding):
    path = tmp_path / "text"
    path.write_bytes("a one\n".encode(encoding))
    with pytest.raises(InputError, match=r"text:1: UTF-16, .*iconv -f utf-16"):
        read_lines(path)


def test_ids_are_composed():
    assert parse_text(["e\u0301 ONE"], "text") == {"\u00e9": "ONE"}
    with pytest.raises(InputError, match=r"text:2: utterance \u00e9 is already on line 1"):
        parse_text(["e\u0301 ONE", "\u00e9 TWO"], "text")


def test_text_may_have_no_words():
    assert parse_text(["a ONE  TWO ", "b", "c\tTHREE"], "text") == {
        "a": "ONE  TWO",
        "b": "",
        "c": "THREE",
    }


def test_text_refuses_doubled_ids_and_empty_lines():
    with pytest.raises(InputError, match=r"text:3: utterance a is already on line 1"):
        parse_text(["a ONE", "b TWO", "a ONE"], "text")
    with pytest.raises(InputError, match=r"text:2: empty line"):
        parse_text(["a ONE", "", "b TWO"], "text")


def test_trn():
    lines = [";; comment", "one two (a-1)", "", "(b-2)", "he (said) so (c-3) ", "six (talk_(1))"]
    expected = {"a-1": "one two", "b-2": "", "c-3": "he (said) so", "talk_(1)": "six"}
    assert parse_trn(lines, "ref.trn") == expected


@pytest.mark.parametrize("line", ["one two", "one (two words)", "f(x)", "one ()", "one (a) b"])
def test_invalid_trn_ids(line):
    assert trn_id(line) is None


def test_trn_refuses_what_it_cannot_score():
    with pytest.raises(InputError, match=r"ref.trn:2: found"):
        parse_trn(["one (a)", "two"], "ref.trn")
    with pytest.raises(InputError, match=r"ref.trn:3: utterance a is already on line 1"):
        parse_trn(["one (a)", ";;", "two (a)"], "ref.trn")
    with pytest.raises(InputError, match=r"ref.trn:1: alternatives"):
        parse_trn(["{ one / won } two (a)"], "ref.trn")
    with pytest.raises(InputError, match=r"ref.trn:1: alternatives"):
        parse_trn(["{one/won} two (a)"], "ref.trn")
    assert parse_trn(["{breath} one/won (a)"], "ref.trn") == {"a": "{breath} one/won"}
