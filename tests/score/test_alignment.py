"""Numbers of alignments beside the error rate."""

import json

import numpy as np
import pytest

from asr.cli import main
from asr.errors import InputError
from asr.score.alignment import rank_correlation, read_statistics


def test_rank_correlation_equals_scipys():
    stats = pytest.importorskip("scipy.stats")
    chance = np.random.default_rng(1)
    for _ in range(5):
        x, y = chance.integers(0, 6, 30), chance.normal(size=30).round(1)
        assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert rank_correlation(np.ones(3), np.arange(3)) is None
    assert rank_correlation(np.arange(3), -np.arange(3)) == pytest.approx(-1)


@pytest.fixture
def folders(tmp_path):
    texts = {"ref": ["a b", "c d", "e f"], "hyp": ["a b", "c x", "y x"]}
    for name, lines in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(_lines(lines * 4))
    results = [
        {"id": f"u-{n:02}", "alignment": {"sharpness": 1 / (n % 3 + 1), "jumps": 0}}
        for n in range(12)
    ]
    write(tmp_path / "hyp", results)
    return str(tmp_path / "ref"), str(tmp_path / "hyp")


def _lines(texts):
    return "".join(f"u-{n:02} {text}\n" for n, text in enumerate(texts))


def write(folder, results):
    (folder / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in results))


def test_the_report_and_the_page_show_the_numbers(folders, tmp_path, capsys):
    assert main(["score", *folders, "--json"]) == 0
    sharp, jumps = json.loads(capsys.readouterr().out)["alignment"]
    assert sharp == {
        "name": "sharpness",
        "mean": pytest.approx(11 / 18),
        "correlation": pytest.approx(-1),
    }
    assert jumps == {"name": "jumps", "mean": 0.0, "correlation": None}
    page = tmp_path / "page.html"
    assert main(["score", *folders, "--html", str(page)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["sharpness", "0.611", "-1.00"] in lines and ["jumps", "0.000", "-"] in lines
    assert "<td>sharpness</td><td>0.611</td><td>-1.00</td>" in page.read_text()


def test_without_numbers_there_is_no_table(folders, tmp_path, capsys):
    write(tmp_path / "hyp", [{"id": "u-01"}])
    assert main(["score", *folders, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alignment"] == []
    assert read_statistics(tmp_path / "ref") == {}


def test_only_numbers_that_every_utterance_has_are_shown(folders, tmp_path, capsys):
    results = [
        {"id": f"u-{n:02}", "x": "\u2028", "alignment": {"b": n, f"{n}": n}} for n in (1, 2, 3)
    ]
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in results]
    (tmp_path / "hyp" / "results.jsonl").write_text("".join(lines), encoding="utf-8")
    assert main(["score", *folders, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["alignment"]
    assert found == {"name": "b", "mean": 2.0, "correlation": None}  # of 3 utterances


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1]", "not a result of `asr decode`"),
        (b'{"id": "u-1", "alignment": {"a": "x"}}', "not a result of `asr decode`"),
        (b'{"id": "u-1", "alignment": {"a": [1]}}', "not a result of `asr decode`"),
        (b'{"id": "u-1", "alignment": {"a": 1' + 400 * b"0" + b"}}", "not a result of"),
        (b'{"id": "\xe9"}', "byte 0xe9 is not UTF-8"),
    ],
)
def test_bad_results(tmp_path, line, message):
    (tmp_path / "results.jsonl").write_bytes(line + b"\n")
    with pytest.raises(InputError, match=rf"results.jsonl:1: {message}"):
        read_statistics(tmp_path / "text")
