"""Readers of files that others wrote give a value or an InputError, whatever stands in the file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz import budget
from hypothesis import given
from hypothesis import strategies as st

from asr.config import TrainConfig
from asr.config.read import from_dict, load_yaml
from asr.corpus.datadir import DataDir
from asr.corpus.edit import fix
from asr.corpus.importing import import_kaldi
from asr.corpus.tables import read_table
from asr.corpus.validate import validate, warnings
from asr.errors import InputError
from asr.lm.lookahead import load_word_lm
from asr.score.readers import open_source, read_pair
from asr.search.hotwords import load_hotwords
from asr.text.normalize import read_map
from asr.text.tokenizer import CharTokenizer
from asr.text.transcripts import parse_text, parse_trn, read_lines

TOKENS = CharTokenizer.from_texts(["A B"])
ODD = [
    "",
    " ",
    "\t",
    "\r",
    "\0",
    "é",
    "e\u0301",
    "\u00ad",
    "\u2028",
    "\ufeff",
    "\x85",
    "\U0001f600",
]
NUMBERS = ["0", "1", "-1", "1.5", "nan", "inf", "1e999", "٣", "²", "1_0", "0x1", "-99", "9" * 5000]


def content(*words: str, like: str = "") -> st.SearchStrategy[bytes]:
    """Lines of a format's own words, numbers and odd characters, or any bytes.

    Half of the files are ``like`` a good one, where one is given, but for a line or two.
    """
    words_of_line = st.lists(st.sampled_from([*words, *ODD, *NUMBERS]), max_size=7)
    line = st.tuples(st.sampled_from(" \t"), words_of_line).map(lambda x: x[0].join(x[1]))
    lines = st.lists(line, max_size=9)
    if like:
        lines |= st.lists(st.tuples(st.integers(0, 99), line), max_size=2).map(
            lambda changes: changed(like.splitlines(), changes)
        )
    ends = st.sampled_from(["\n", "\r\n"])
    return st.tuples(ends, lines).map(lambda x: x[0].join([*x[1], ""]).encode()) | st.binary()


def changed(lines: list[str], changes: list[tuple[int, str]]) -> list[str]:
    """Lines of which some are replaced, by place; an empty one is left out."""
    for place, line in changes:
        lines[place % len(lines)] = line
    return [line for line in lines if line]


def read_transcripts(path: Path) -> None:
    for parse in (parse_text, parse_trn):
        try:
            parse(read_lines(path), path)
        except InputError:
            continue


def read_score(path: Path) -> None:
    read_pair(open_source(path), open_source(path))


def read_hotwords(path: Path) -> None:
    load_hotwords(path, 1.0, TOKENS)


def read_lm(path: Path) -> None:
    load_word_lm(path, TOKENS)


def read_settings(path: Path) -> None:
    from_dict(TrainConfig, load_yaml(path), str(path))


ARPA = """\\data\\
ngram 1=4
ngram 2=1

\\1-grams:
-1 <s> -0.5
-1 </s>
-1 A -0.5
-1 <unk>

\\2-grams:
-1 <s> A

\\end\\"""
TABLE = "<blank> 0\n<unk> 1\nA 2\n<sos/eos> 3"
SETTINGS = "epochs: 3\nmodel:\n  encoder:\n    units: 8\naugment: {}\nseed: 1"
SUBTITLES = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<i>A</i>"
READERS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "table": (read_table, "a b", "a x\nb x"),
    "text": (read_transcripts, "a (a) ;; { A", "a A\nb B"),
    "plain.txt": (read_score, "a-1 A (a) WEBVTT --> <i> 00:00:01,000", SUBTITLES),
    "x.stm": (read_score, "a <o> ;; { A", "a 1 b 0 1 <o> A"),
    "tokens.txt": (CharTokenizer.from_file, "<blank> <unk> <sos/eos> A", TABLE),
    "map": (read_map, "=> a ;; [ {", "a => b c"),
    "hot": (read_hotwords, "A B", "A\t1\nB"),
    "x.arpa": (read_lm, "\\data\\ ngram 1=3 \\1-grams: \\end\\ <s> </s> A", ARPA),
    "x.yaml": (read_settings, "model: epochs: - { } [ &a *a !!python/object:os.x ? ' |", SETTINGS),
}


@pytest.mark.parametrize("name", READERS)
@budget(60)
@given(data=st.data())
def test_readers(tmp_path_factory, name, data):
    read, words, like = READERS[name]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data.draw(content(*words.split(), like=like)))
    try:
        read(path)
    except InputError as error:
        assert str(path) in str(error)


@budget(60)
@given(ctm=content("a", "A", "1", "*", "<ALT>", ";;"), ref=content("a", "A", "<o>", ";;"))
def test_ctm_against_any_reference(tmp_path_factory, ctm, ref):
    folder = tmp_path_factory.getbasetemp()
    (folder / "hyp.ctm").write_bytes(ctm)
    for name in ("ref.stm", "ref.trn"):
        (folder / name).write_bytes(ref)
        try:
            read_pair(open_source(folder / name), open_source(folder / "hyp.ctm"))
        except InputError:
            continue


def attempt(call: Callable[..., Any], *arguments: object) -> Any:
    try:
        return call(*arguments)
    except InputError:
        return None


FILES = st.sampled_from(
    [
        "text",
        "utt2spk",
        "spk2utt",
        "wav.scp",
        "segments",
        "utt2dur",
        "spk2gender",
        "utt2num_frames",
        "feats.scp",
    ]
)
GOOD = {"utt2spk": b"a a\nb b\n", "text": b"a A\nb B\n", "wav.scp": b"a x |\nb x |\n"}


@budget(80)
@given(files=st.dictionaries(FILES, content("a", "a-1", "b", "a.wav", "x |", "m"), max_size=3))
def test_data_directories(tmp_path_factory, files):
    folder = tmp_path_factory.getbasetemp() / "data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, lines in {**GOOD, "spk2utt": GOOD["utt2spk"], **files}.items():
        (folder / name).write_bytes(lines)
    problems = list(map(str, validate(folder)))
    attempt(warnings, folder)
    if not problems:
        assert DataDir.load(folder).utterances
    attempt(import_kaldi, folder, folder.with_name("imported"), "/", str)
    if attempt(fix, folder) is not None:
        assert read_table(folder / "utt2spk")
        assert attempt(fix, folder) is not None
