"""Numbers of alignments made by hand: steps of 100 ms."""

import numpy as np
import pytest

from asr.recognize.metrics import (
    STALL_LENGTH,
    AlignmentStatistics,
    alignment_statistics,
    coverage,
    jumps,
    mean_statistics,
    monotonicity,
    sharpness,
    skipped_s,
    stalled,
)

STEP_S = 0.1


def sound(count, *silent):
    found = np.ones(count, bool)
    for start, end in silent:
        found[start:end] = False
    return found


def places(*steps):
    return np.array(steps, float)


def test_sharpness_is_the_mean_of_the_largest_weights():
    assert sharpness(np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])) == 0.75
    assert sharpness(np.full((2, 4), 0.25)) == 0.25
    assert sharpness(np.zeros((0, 4))) == 0.0


def test_coverage_counts_the_steps_with_sound():
    weights = np.array([[0.9, 0.06, 0.04, 0.0], [0.0, 0.06, 0.94, 0.0]])
    assert coverage(weights, sound(4)) == 0.75
    assert coverage(weights, sound(4, (3, 4))) == 1.0
    assert coverage(weights, np.zeros(4, bool)) == 1.0


def test_monotonicity_allows_one_step_back():
    assert monotonicity(places(0, 3, 2, 0.5, 4)) == 0.75
    assert monotonicity(places(7)) == monotonicity(places()) == 1.0


def test_jumps_are_longer_than_a_second_on_either_side():
    assert jumps(places(0, 10, 20.5, 9, 9), STEP_S) == 2


def test_stalled_characters_are_those_of_every_window():
    assert stalled(np.zeros(STALL_LENGTH - 1)) == 0
    assert stalled(np.concatenate([np.arange(5) * 10, 50 + np.zeros(STALL_LENGTH + 2)])) == 14
    assert stalled(np.arange(20.0)) == 0


def test_skipped_sound_lies_in_long_gaps():
    assert skipped_s(places(2, 4, 8), sound(10), STEP_S) == 0
    assert skipped_s(places(2, 10, 12), sound(20), STEP_S) == pytest.approx(0.8 + 0.8)
    assert skipped_s(places(2, 10, 12), sound(20, (4, 9), (14, 20)), STEP_S) == 0
    assert skipped_s(places(0, 9, 1, 10), sound(11), STEP_S) == pytest.approx(0.9)  # looks back
    assert skipped_s(places(), sound(10), STEP_S) == pytest.approx(1.0)


def test_numbers_of_a_diagonal():
    found = alignment_statistics(np.eye(10, dtype=np.float32), sound(40), STEP_S)
    assert found == AlignmentStatistics(1.0, 1.0, 1.0, 0, 0, 0.0)
    nothing = alignment_statistics(np.zeros((0, 10), np.float32), sound(40), STEP_S)
    assert nothing == AlignmentStatistics(0.0, 0.0, 1.0, 0, 0, pytest.approx(1.0))
    assert nothing.to_dict()["skipped_s"] == 1.0


def test_characters_without_weight_have_no_position():
    weights = np.eye(10, dtype=np.float32)
    weights[4] = 0.0
    found = alignment_statistics(weights, sound(40), STEP_S)
    assert (found.monotonicity, found.sharpness, found.coverage) == (1.0, pytest.approx(0.9), 0.9)


def test_the_mean_of_a_set():
    a, b = AlignmentStatistics(1, 1, 1, 0, 0, 0), AlignmentStatistics(0.5, 0, 1, 1, 12, 3)
    assert mean_statistics([a, b]) == AlignmentStatistics(0.75, 0.5, 1.0, 0.5, 6.0, 1.5)
    assert mean_statistics([]) is None
    assert str(b).startswith("sharpness 0.50, coverage 0 %, monotonicity 100.0 %; per utterance 1")
