"""Search weights from n-best lists made by hand."""

import json

import numpy as np
import pytest
import yaml

from asr.cli import main
from asr.errors import InputError
from asr.lm.arpa import write_arpa
from asr.lm.kneser_ney import estimate
from asr.text.tokenizer import CharTokenizer
from asr.tune.grid import GridSearch, best_point, search_grid
from asr.tune.nbest import read_lists

REFERENCES = {"u1": "A B C", "u2": "D E"}


def entry(text, attention, ctc, lm=0.0):
    return {"text": text, "scores": {"decoder": attention, "ctc": ctc, "lm": lm}}


@pytest.fixture
def decoding(tmp_path):
    """u1 needs CTC to be right; u2 is right with less than so much of a bonus (for 'D E' is
    shorter than 'D E F', by two characters whose attention is 3 lower)."""

    def write(lists):
        lines = [
            json.dumps({"id": name, "segments": [{"nbest": found}]}) + "\n"
            for name, found in lists.items()
        ]
        (tmp_path / "results.jsonl").write_text("".join(lines))
        (tmp_path / "ref").mkdir(exist_ok=True)
        text = "".join(f"{u} {words}\n" for u, words in REFERENCES.items())
        (tmp_path / "ref" / "text").write_text(text)
        return tmp_path

    write.lists = {
        "u1": [entry("A X C", -1.0, -9.0), entry("A B C", -2.0, -1.0)],
        "u2": [entry("D E", -1.0, -1.0), entry("D E F", -4.0, -1.0), entry("D", -9.0, -9.0)],
    }
    return write


def rate(result, ctc_weight, bonus):
    c = int(np.flatnonzero(np.isclose(result.ctc_weights, ctc_weight))[0])
    b = int(np.flatnonzero(np.isclose(result.bonuses, bonus))[0])
    return result.rates[c, 0, b]


def test_scores_that_took_no_part_are_zero(decoding):
    folder = decoding(decoding.lists)
    expected = vars(read_lists(folder / "ref", [folder]))
    lists = {
        name: [e | {"scores": {"length": 3.0} | e["scores"]} for e in found]
        for name, found in decoding.lists.items()
    }
    for found in lists.values():
        for each in found:
            del each["scores"]["lm"]
    folder = decoding(lists)
    np.testing.assert_equal(vars(read_lists(folder / "ref", [folder])), expected)


def test_each_point_by_hand(decoding):
    folder = decoding(decoding.lists)
    lists = read_lists(folder / "ref", [folder])
    assert lists.words == 5
    assert lists.errors.tolist() == [[1, 0, 0], [0, 1, 1]]
    assert (lists.first, lists.oracle) == (1 / 5, 0.0)
    result = search_grid(lists)
    assert len(result.lm_weights) == 1  # there are no LM scores
    assert rate(result, 0.0, 0.0) == 1 / 5  # attention alone prefers A X C
    assert rate(result, 0.5, 0.0) == 0.0  # -1.5 beats -5
    assert rate(result, 0.5, 0.6) == 0.0  # two characters bring 1.2 of 1.5
    assert rate(result, 0.5, 1.0) == 1 / 5  # and 2.0 of 1.5: D E F


def test_decomposed_ids_are_those_of_composed_ones(decoding):
    lists = {"e\u0301": decoding.lists["u1"]}
    folder = decoding(lists)
    (folder / "ref" / "text").write_text("e\u0301 A B C\n", encoding="utf-8")
    assert read_lists(folder / "ref", [folder]).errors.tolist() == [[1, 0]]


def test_an_lm_axis_where_there_are_scores(decoding):
    folder = decoding({"u1": [entry("A X C", -1.0, -1.0, -5.0), entry("A B C", -2.0, -2.0, -1.0)]})
    result = search_grid(read_lists(folder / "ref", [folder]))
    at = dict(zip(result.lm_weights, result.rates[0, :, 0], strict=True))
    assert (at[0.2], at[0.3]) == (3 / 5, 2 / 5)  # D E is lost in any case


def test_several_decodings_share_their_weights(decoding):
    folder = decoding(decoding.lists)
    one, two = (read_lists(folder / "ref", [folder] * n) for n in (1, 2))
    assert two.words == 2 * one.words
    assert two.errors.tolist() == one.errors.tolist() * 2
    np.testing.assert_array_equal(search_grid(two).rates, search_grid(one).rates)


def test_errors_are_those_of_scoring(decoding):
    folder = decoding(decoding.lists | {"u1": [entry("E\u0301  B C", -1.0, -1.0)]})
    (folder / "ref" / "text").write_text("u1 \u00c9\tB C\nu2 D E\n")
    assert read_lists(folder / "ref", [folder]).errors[0, 0] == 0


def test_of_equal_points_the_first_wins():
    assert best_point(np.full((21, 12, 21), 1 / 3)) == (0, 0, 0)


def test_of_equal_means_the_lower_rate_wins():
    assert best_point(np.array([[[0.2, 0.1]]])) == (0, 0, 1)


def test_the_middle_of_a_low_region_wins():
    rates = np.full((5, 5, 1), 0.5)
    rates[0, 0] = 0.09  # a lone low point
    rates[2:5, 2:5] = 0.1
    assert best_point(rates) == (3, 3, 0)


def test_the_command(decoding, tmp_path, capsys):
    folder = decoding(decoding.lists)
    (tmp_path / "base.yaml").write_text("beam: 8\nlength_bonus: 9.0\n")
    arguments = [str(folder / "ref"), str(folder), "--config", str(tmp_path / "base.yaml")]
    assert main(["tune", *arguments, "--out", str(tmp_path / "tuned.yaml")]) == 0
    tuned = yaml.safe_load((tmp_path / "tuned.yaml").read_text())
    assert tuned["beam"] == 8
    assert tuned["length_bonus"] < 1.0
    assert (tmp_path / "tuned.png").stat().st_size > 1000
    table = json.loads((tmp_path / "tuned.json").read_text())
    assert table["best"]["wer"] == 0.0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2:5:2] == [["as", "decoded", "20.00"], ["oracle", "0.00"]]
    assert lines[3][:2] == ["best", "0.00"]


def test_an_interrupted_decoding_is_named(decoding, capsys):
    """Its results are those of an earlier one."""
    folder = decoding(decoding.lists)
    (folder / "partial.jsonl").write_text("")
    read_lists(folder / "ref", [folder])
    assert f"{folder}: results of an earlier decoding; the last one" in capsys.readouterr().err


def test_an_utterance_without_hypotheses_is_named(decoding, capsys):
    folder = decoding({"u1": decoding.lists["u1"]})
    assert read_lists(folder / "ref", [folder]).errors[1, 0] == len(REFERENCES["u2"].split())
    assert "no hypothesis for 1 utterance (u2); all words are errors" in capsys.readouterr().err


def test_one_hypothesis_leaves_no_choice(decoding, tmp_path):
    folder = decoding({"u1": [entry("A B C", -1.0, -1.0)], "u2": [entry("D E", -1.0, -1.0)]})
    with pytest.raises(InputError, match="one hypothesis of each utterance, expected several"):
        read_lists(folder / "ref", [folder])


def test_weights_that_are_no_better_than_those_of_the_decoding(decoding, tmp_path, capsys):
    """All weights get both utterances right, and so did those of the decoding."""
    worse = entry("X", -90.0, -90.0)
    lists = {"u1": [entry("A B C", -1.0, -1.0), worse], "u2": [entry("D E", -1.0, -1.0), worse]}
    folder = decoding(lists)
    weights = {"ctc_weight": 0.33, "lm_weight": 0.3, "length_bonus": 0.7}
    summary = {"config": {**weights, "lm": "", "word_lm": ""}}
    (folder / "decode.json").write_text(json.dumps(summary))
    command = ["tune", str(folder / "ref"), str(folder), "--out", str(tmp_path / "tuned.yaml")]
    assert main(command) == 0
    assert yaml.safe_load((tmp_path / "tuned.yaml").read_text()) == {**weights, "lm_weight": 0.0}
    err = capsys.readouterr().err
    assert "warning: chosen on 5 words" in err and "decoding, which are kept" in err
    table = json.loads((tmp_path / "tuned.json").read_text())
    assert table["chosen"]["length_bonus"] == 0.7 != table["best"]["length_bonus"]
    assert "leaves out" not in err
    summary["config"]["hotwords"] = "hot.txt"
    (folder / "decode.json").write_text(json.dumps(summary))
    assert main(command) == 0
    assert "the grid leaves out the scores of hot words" in capsys.readouterr().err
    summary["config"]["lm"] = "chars.safetensors"  # its weight is not one without it
    (folder / "decode.json").write_text(json.dumps(summary))
    assert main([*command, "--no-lm"]) == 0
    assert yaml.safe_load((tmp_path / "tuned.yaml").read_text())["ctc_weight"] != 0.33


def test_the_language_model_of_the_decoding_stays(decoding, tmp_path):
    """With its weight, if none is better, and with another one where the lists need it."""
    lists = {"u2": [entry("D E", -2.0, -1.0, -1.0), entry("D E F", -1.5, -1.0, -9.0)]}
    folder = decoding(lists)
    config = {"ctc_weight": 0.33, "lm_weight": 0.3, "length_bonus": 0.7, "word_lm": "w.arpa"}
    (folder / "decode.json").write_text(json.dumps({"config": config | {"oov_penalty": 2.0}}))
    arguments = [str(folder / "ref"), str(folder), "--out", str(tmp_path / "tuned.yaml")]
    assert main(["tune", *arguments]) == 0
    tuned = yaml.safe_load((tmp_path / "tuned.yaml").read_text())
    assert (tuned["word_lm"], tuned["oov_penalty"], tuned["ctc_weight"]) == ("w.arpa", 2.0, 0.33)
    lists["u2"].reverse()  # so that the decoding was wrong
    decoding(lists)
    assert main(["tune", *arguments]) == 0
    tuned = yaml.safe_load((tmp_path / "tuned.yaml").read_text())
    assert tuned["word_lm"] == "w.arpa" and tuned["lm_weight"] > 0
    assert tuned["ctc_weight"] != 0.33


def test_scores_of_other_language_models(decoding, tmp_path):
    """Unigrams of D E, or of E F: the words of a text that they know make it likelier."""
    table = tmp_path / "tokens.txt"
    CharTokenizer.from_texts(["ABCDEFX "]).to_file(table)
    for name, text in (("right", "D E"), ("wrong", "D E F")):
        write_arpa(estimate([text] * 9, 2), tmp_path / f"{name}.arpa")
    folder = decoding({"u2": [entry("D E", -2.0, -1.0), entry("D E F", -1.5, -1.0)]})
    chosen = {}
    for name in ("right", "wrong"):
        arguments = [str(folder / "ref"), str(folder), "--word_lm", str(tmp_path / f"{name}.arpa")]
        out = tmp_path / f"{name}.yaml"
        assert main(["tune", *arguments, "--tokens", str(table), "--out", str(out)]) == 0
        chosen[name] = yaml.safe_load(out.read_text())
    assert chosen["right"]["word_lm"] == str(tmp_path / "right.arpa")
    assert chosen["right"]["lm_weight"] > chosen["wrong"]["lm_weight"]
    assert main(["tune", *arguments, "--out", str(out)]) == 2  # no --tokens


def test_scores_by_text(decoding):
    folder = decoding(decoding.lists)
    scores = {text: float(len(text)) for text in ("A X C", "A B C", "D E", "D E F", "D")}
    lists = read_lists(folder / "ref", [folder]).with_lm(scores)
    assert lists.lm.tolist() == [[5.0, 5.0, -np.inf], [3.0, 5.0, 1.0]]


AXES = (np.array([0.0, 1.0]), np.array([0.0, 0.5]), np.array([0.0, 1.0, 2.0]))


def test_edges_of_the_grid():
    rates = np.ones((2, 2, 3))
    assert GridSearch(*AXES, rates, (1, 1, 2)).edges() == ["length_bonus = 2", "lm_weight = 0.5"]
    assert GridSearch(*AXES, rates, (1, 0, 0)).edges() == []


def test_without_the_language_model_the_best_point_has_no_weight_of_it():
    rates = np.ones((2, 2, 3))
    rates[0, 1, 0] = rates[1, 0, 2] = 0.0
    assert GridSearch(*AXES, rates, (0, 1, 0)).without_lm() == (1, 0, 2)


def test_bad_lists(decoding, tmp_path):
    folder = decoding({"u9": [entry("A", -1.0, -1.0)]})
    with pytest.raises(InputError, match="u9 has no reference"):
        read_lists(folder / "ref", [folder])
    results = folder / "results.jsonl"
    for scores in ({}, {"scores": None}, {"scores": {"ctc": -1.0}}):
        decoding({"u1": [{"text": "A"} | scores]})
        with pytest.raises(InputError, match=r"results.jsonl:1: not an n-best list"):
            read_lists(folder / "ref", [folder])
    for text, score in (("A", None), ("A", "much"), ("A", float("nan")), (None, -1.0)):
        folder = decoding({"u1": [entry(text, score, -1.0)]})
        with pytest.raises(InputError, match=r"results.jsonl:1: not an n-best list"):
            read_lists(folder / "ref", [folder])
    for value in ('{"id": 5, "segments": []}', json.dumps({"id": "u1", "segments": 7})):
        results.write_text(value + "\n")
        with pytest.raises(InputError, match=r"results.jsonl:1: not an n-best list"):
            read_lists(folder / "ref", [folder])
    results.write_text('{"id": "u1", "segments": []}\n')
    with pytest.raises(InputError, match="no hypotheses"):
        read_lists(folder / "ref", [folder])
    with pytest.raises(InputError, match=r"nowhere/results\.jsonl: cannot read"):
        read_lists(folder / "ref", [tmp_path / "nowhere"])
    (folder / "ref" / "text").write_text("u1\nu2\n")
    with pytest.raises(InputError, match="ref: no words in the transcripts, expected references"):
        read_lists(folder / "ref", [folder])
