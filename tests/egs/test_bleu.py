"""BLEU, chrF and exact sentences of translations."""

import pytest

from asr.errors import InputError


@pytest.fixture
def bleu(load_script):
    return load_script("mini_translation/local/bleu.py")


def test_score_by_hand(bleu):
    """Seven of eight words, five of six pairs, three of four triples, one of two fours."""
    references = {"a": "MI TIKI DEK TARD", "b": "NOTI LISTU MEA STA"}
    written = {"a": "MI TIKI DEK TARD", "b": "NOTI LISTU MEA ESA"}
    lines = bleu.score(references, written)
    expected = 100 * (7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** 0.25
    assert lines[0].startswith(f"%BLEU {expected:.2f} nrefs:1|")
    assert lines[1].startswith("%chrF2 ") and 80 < float(lines[1].split()[1]) < 100
    assert lines[2] == "%exact 50.00 [ 1 / 2 ]"


def test_a_missing_hypothesis_is_wrong(bleu):
    lines = bleu.score({"a": "MI TIKI", "b": "NOTI LISTU"}, {"a": "MI TIKI"})
    assert lines[2] == "%exact 50.00 [ 1 / 2 ]"


def test_files(bleu, tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("a MI TIKI DEK TARD\nb\n")
    assert bleu.main([str(text), str(text)]) == 0
    assert capsys.readouterr().out.splitlines()[2] == f"%exact 100.00 [ 2 / 2 ] {tmp_path}"
    assert bleu.main([]) == 2


@pytest.mark.parametrize(("said", "written"), [({"a": "MI"}, {"b": "MI"}), ({}, {})])
def test_another_set_is_refused(bleu, said, written):
    with pytest.raises(InputError, match="score the set that was decoded"):
        bleu.score(said, written)
