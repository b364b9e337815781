"""Is a difference more than luck? Numbers to follow by hand."""

import math
import re
import shutil
import subprocess

import numpy as np
import pytest

from asr.cli import main
from asr.errors import InputError
from asr.score.bootstrap import REPLICATES
from asr.score.compare import bootstrap_difference, compare, matched_pairs, matched_segments
from asr.score.report import describe_comparison
from asr.score.wer import align, score


def segments(ref, a, b):
    return matched_segments(*align([ref, ref], [a, b]))


def test_two_right_words_separate_segments():
    ref = "a b c d e f"
    assert segments(ref, ref, ref) == []
    assert segments(ref, "x b c d e f", ref) == [(1, 0)]
    # b is wrong in A, c in B: one stretch. f comes after two words that both have right.
    assert segments(ref, "a x c d e x", "a b x d e f") == [(1, 1), (1, 0)]
    # One right word between the errors does not separate them.
    assert segments(ref, "x b x d e f", "a b c d e f") == [(2, 0)]
    # Nor does it if each system has one of the errors.
    assert segments("a b c", "a b x", "x b c") == [(1, 1)]


def test_insertions_stand_between_words():
    # b and c separate the errors, on whichever side of them the insertion is.
    assert segments("a b c d", "a x b c x", "a b c d") == [(1, 0), (1, 0)]
    assert segments("a b c d", "x b c x d", "a b c d") == [(1, 0), (1, 0)]
    assert segments("a b c d", "a x b x c d", "a b c d") == [(2, 0)]
    assert segments("a b c", "x a b c", "a b c") == [(1, 0)]
    assert segments("a b c", "a b c", "a b c x y") == [(0, 2)]


def test_matched_pairs_by_hand():
    # Differences 1, 1, 0, -1, 1, 1: mean 1/2, variance (3 * 1/4 + 1/4 + 1/4 + 9/4) / 5 = 0.7.
    z, p = matched_pairs([1, 1, 0, -1, 1, 1])
    assert z == pytest.approx(0.5 / math.sqrt(0.7 / 6))
    assert p == pytest.approx(0.1432, abs=1e-4)  # of the normal distribution, two-sided
    assert matched_pairs([-1, -1, 0, 1, -1, -1]) == (-z, p)
    assert matched_pairs([]) == (0.0, 1.0)
    assert matched_pairs([1]) == (0.0, 1.0)
    assert matched_pairs([-2, -2]) == (-math.inf, 0.0)


def test_the_bootstrap_draws_the_same_utterances_for_both():
    generator = np.random.default_rng(3)
    words = generator.integers(1, 12, 80)
    wrong = np.stack([generator.binomial(words, 0.3), generator.binomial(words, 0.2)], axis=1)
    (low, high), chance = bootstrap_difference(wrong, words)
    drawn = generator.integers(80, size=(REPLICATES, 80))
    differences = (wrong[drawn, 0] - wrong[drawn, 1]).sum(1) / words[drawn].sum(1)
    assert (low, high) == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.005)
    assert chance == pytest.approx((differences > 0).mean(), abs=0.02)
    assert bootstrap_difference(wrong[:, [0, 0]], words) == ((0.0, 0.0), 0.0)


def test_replicates_without_words_have_no_rate():
    """Every fourth replicate draws the utterance without words twice."""
    interval, _ = bootstrap_difference(np.array([[1, 0], [0, 0]]), np.array([0, 1]))
    assert all(map(math.isfinite, interval))


def test_only_the_same_references_are_compared():
    with pytest.raises(InputError, match=r"differ \(2 and 1 utterances\)"):
        compare(score(["a", "b"], ["a", "b"]), score(["a"], ["a"]))
    with pytest.raises(InputError, match="the references of the two systems differ"):
        compare(score({"u": "a b"}, {"u": "a"}), score({"u": "a c"}, {"u": "a"}))


def test_the_report_compares(tmp_path, capsys):
    for name, lines in {
        "ref": ["u1 a b c d", "u2 e f"],
        "one": ["u1 a x c d", "u2 e f"],
        "other": ["u1 a b c d", "u2 e"],
    }.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    files = [str(tmp_path / name) for name in ("ref", "one")]
    assert main(["score", *files, "--against", str(tmp_path / "other")]) == 0
    printed = capsys.readouterr().out
    assert "the other system: WER 16.67 %; difference +0.00" in printed
    assert "matched pairs: 2 segments, too few for the test (30 or more)" in printed


def test_references_without_words_are_not_compared(tmp_path, capsys):
    for name, text in (("ref", "u1\n"), ("one", "u1 a\n"), ("other", "u1\n")):
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in ("ref", "one")]
    assert main(["score", *files, "--format", "text", "--against", str(tmp_path / "other")]) == 0
    assert "no words in the references, so nothing can be compared" in capsys.readouterr().out


@pytest.mark.parametrize("count", [29, 30])
def test_no_z_for_few_segments_or_equal_ones(count):
    refs = ["a b"] * count
    found = compare(score(refs, ["a x"] * count), score(refs, refs))
    assert (found.segments, math.isnan(found.z), math.isnan(found.p)) == (count, *[count < 30] * 2)
    assert "z =" not in describe_comparison(found)
    assert ("30 segments, all with the same difference" in describe_comparison(found)) == (
        count == 30
    )


@pytest.mark.skipif(not shutil.which("sctk"), reason="NIST's SCTK is not installed")
def test_matched_pairs_have_the_p_of_nists_program(tmp_path):
    generator = np.random.default_rng(1)
    vocabulary = np.array(list("abcdefgh"))
    refs = [generator.choice(vocabulary, 12) for _ in range(300)]
    systems = {
        # Substitutions by words that the references do not have: no two alignments tie.
        name: [np.where(generator.random(12) < rate, "x", ref) for ref in refs]
        for name, rate in (("A", 0.25), ("B", 0.22))
    }
    texts = {k: [" ".join(words) for words in v] for k, v in {"ref": refs, **systems}.items()}
    for name, lines in texts.items():
        rows = (f"{line} (s{n % 5}-{n:03d})\n" for n, line in enumerate(lines))
        (tmp_path / f"{name}.trn").write_text("".join(rows))
    for name in systems:
        command = f"sctk sclite -i rm -r ref.trn trn -h {name}.trn trn -o sgml"
        subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=True)
    both = "".join((tmp_path / f"{name}.trn.sgml").read_text() for name in systems)
    command = "sctk sc_stats -p -t mapsswe -u -n stats"
    subprocess.run(
        command.split(), cwd=tmp_path, input=both, text=True, capture_output=True, check=True
    )
    theirs = re.search(
        r"MP +\|\| +A\.trn +\| +\| +\S+ +([\d.]+)", next(tmp_path.glob("stats*unified")).read_text()
    )
    ours = compare(score(texts["ref"], texts["A"]), score(texts["ref"], texts["B"]))
    assert f"{ours.p:.3f}" == theirs[1]
