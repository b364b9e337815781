"""The HTML page of errors."""

import html
import re
from html.parser import HTMLParser

import pytest

from asr.cli import main
from asr.score.page import confusions
from asr.score.wer import score

VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """Checks that elements are nested, and collects those with a class or a source."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def utterances(self):
        return [a for tag, a in self.found if tag == "div" and a.get("class") == "u"]


@pytest.fixture
def page(tmp_path):
    def make(ref, hyp, *options):
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        for name, lines in {"text": ref, "../hyp": hyp}.items():
            (data / name).write_text("".join(f"{line}\n" for line in lines))
        out = tmp_path / "page.html"
        assert main(["score", str(data), str(tmp_path / "hyp"), "--html", str(out), *options]) == 0
        return out.read_text()

    return make


def test_utterances_with_most_errors_come_first(page):
    text = page(["u1 a b", "u2 c d", "u3 e"], ["u1 a x", "u2 y z", "u3 e"])
    utterances = Page(text).utterances()
    assert [(u["data-text"][:2], u["data-errors"]) for u in utterances] == [
        ("u2", "2"),
        ("u1", "1"),
        ("u3", "0"),
    ]
    assert '<span class="p S"><span>b</span><span>x</span></span>' in text


def test_words_cannot_break_the_page(page):
    text = page(['u1 <script>alert(1)</script> "&'], ["u1 </div>"])
    assert "<script>alert" not in text
    assert Page(text).utterances()[0]["data-text"] == ('u1 <script>alert(1)</script> "& </div>')


def test_recordings_can_be_played_from_where_the_page_is(page, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/wav.scp").write_text(
        f"r1 {tmp_path}/my sound.wav\nr2 {tmp_path}/gone.wav\nr3 touch {tmp_path}/ran; cat x |\n"
    )
    (tmp_path / "my sound.wav").write_bytes(b"RIFF")
    (tmp_path / "data/segments").write_text("u1 r1 0.5 2.25\nu2 r2 0 1\nu3 r3 0 1\n")
    (tmp_path / "data/utt2spk").write_text("u1 s\nu2 s\nu3 s\n")
    (tmp_path / "data/spk2utt").write_text("s u1 u2 u3\n")
    parsed = Page(page(["u1 a", "u2 b", "u3 c"], ["u1 x", "u2 x", "u3 x"]))
    sources = [a["src"] for tag, a in parsed.found if tag == "audio"]
    assert sources == ["my%20sound.wav#t=0.5,2.25"]
    assert not (tmp_path / "ran").exists()


def test_bad_segments_are_named(tmp_path, capsys):
    for name, line in {"text": "u1 a", "wav.scp": "r1 a.wav", "segments": "u1 r2 0 1"}.items():
        (tmp_path / name).write_text(f"{line}\n")
    data = str(tmp_path)
    assert main(["score", data, data, "--html", str(tmp_path / "page.html")]) == 2
    assert "segments:1: r2 is not in wav.scp" in capsys.readouterr().err


def test_confusions_the_most_frequent_first():
    result = score(["a b", "a c", "d"], ["x b", "x", "d e"])
    assert confusions(result) == [(("a", "x"), 2), (("c", None), 1), ((None, "e"), 1)]


def test_the_page_has_what_the_report_has(page, tmp_path):
    (tmp_path / "other").write_text("u1 a b\n")
    text = page(["u1 a b"], ["u1 a x"], "--against", str(tmp_path / "other"))
    plain = html.unescape(re.sub(r"<[^>]+>", "", text))
    assert "50.00 % of 2 words are wrong" in plain
    assert "the other system: WER 0.00 %" in plain


def test_a_page_that_cannot_be_written_is_an_error(page, tmp_path, capsys):
    (tmp_path / "ref").write_text("u1 a\n")
    target = str(tmp_path / "no" / "page.html")
    (tmp_path / "no").write_text("a file, not a folder")
    assert main(["score", str(tmp_path / "ref"), str(tmp_path / "ref"), "--html", target]) != 0
    assert "page.html" in capsys.readouterr().err
