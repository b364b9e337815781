"""Statistics add up, normalise features, and are written in Kaldi's text format."""

import numpy as np
import pytest

from asr.audio.cmvn import STD_FLOOR, CmvnStats, read_stats, write_stats
from asr.audio.features import normalize
from asr.errors import InputError

FRAMES = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 20.0]], np.float32)
ARCHIVE = "global  [\n  9 60 3\n  35 1400 0 ]\n"  # sums and count; sums of squares and 0


def same(a, b):
    return (
        a.count == b.count
        and np.array_equal(a.sum, b.sum)
        and np.array_equal(a.square_sum, b.square_sum)
    )


def test_statistics_by_hand():
    stats = CmvnStats.from_features(FRAMES)
    assert (stats.count, stats.sum.tolist(), stats.square_sum.tolist()) == (3, [9, 60], [35, 1400])
    assert stats.mean.tolist() == [3, 20]
    np.testing.assert_allclose(stats.std, np.sqrt([8 / 3, 200 / 3]))


def test_the_sum_is_that_of_all_frames():
    parts = [CmvnStats.from_features(part) for part in (FRAMES[:1], FRAMES[1:])]
    assert same(parts[0] + parts[1], CmvnStats.from_features(FRAMES))
    assert same(sum(parts, CmvnStats.zero(2)), CmvnStats.from_features(FRAMES))


def test_normalised_features_have_mean_0_and_variance_1():
    features = np.random.default_rng(0).normal(-7, 5, (1000, 80)).astype(np.float32)
    normal = CmvnStats.from_features(features).normalize(features)
    assert normal.dtype == np.float32
    np.testing.assert_allclose(normal.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.square(normal).mean(0), 1, atol=1e-5)


def test_scaled_statistics_have_the_same_mean_and_variance():
    stats = CmvnStats.from_features(FRAMES)
    scaled = stats.scaled_to(200)
    assert scaled.count == 200
    np.testing.assert_allclose(scaled.mean, stats.mean)
    np.testing.assert_allclose(scaled.std, stats.std)


def test_a_speaker_begins_with_frames_of_the_training_set():
    overall = CmvnStats.from_features(np.float32([[-1], [1]] * 1000))  # mean 0, variance 1
    word = np.full((100, 1), 3, np.float32)
    # 200 frames of mean 0 and variance 1 and 100 frames of 3: mean 1, mean of squares 11 / 3
    expected = (3 - 1) / np.sqrt(11 / 3 - 1)
    for speaker in (None, CmvnStats.from_features(word)):
        normal = normalize(word, "speaker", overall, speaker)
        np.testing.assert_allclose(normal, expected, rtol=1e-6)
    np.testing.assert_allclose(normalize(word, "global", overall, None), 3)


def test_long_sums_stay_exact():
    features = np.full((100_000, 1), -15.9424, np.float32)
    assert CmvnStats.from_features(features).mean.item() == pytest.approx(-15.9424, abs=1e-6)


def test_a_constant_feature_is_centred_and_does_not_explode_later():
    stats = CmvnStats.from_features(np.full((50, 1), -15.9, np.float32))
    assert stats.std.item() == pytest.approx(STD_FLOOR)
    normal = stats.normalize(np.array([[-15.9], [-5.9]], np.float32))
    np.testing.assert_allclose(normal, [[0.0], [100.0]], atol=1e-4)


def test_the_archive_is_kaldis(tmp_path):
    path = write_stats(tmp_path / "cmvn.ark", {"global": CmvnStats.from_features(FRAMES)})
    assert path.read_text() == ARCHIVE


def test_archives_are_sorted_and_come_back_exactly(tmp_path):
    stats = {
        key: CmvnStats.from_features(np.random.default_rng(0).standard_normal((9, 5)))
        for key in ("s2", "s10")
    }
    path = write_stats(tmp_path / "cmvn.ark", stats)
    found = read_stats(path)
    assert list(found) == ["s10", "s2"]
    assert all(same(found[key], stats[key]) for key in stats)


def test_output_of_copy_matrix_is_read(tmp_path):
    path = tmp_path / "cmvn.ark"
    path.write_text("spk  [\n  9.0 6e+1 3 \n  35 1400 0 ]\n")
    assert same(read_stats(path)["spk"], CmvnStats.from_features(FRAMES))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ARCHIVE + "spk  [\n  1 2 3\n", "cmvn.ark:4: expected"),
        ("no archive at all\n", "cmvn.ark:1: expected"),
        (ARCHIVE.replace("60 3", "60"), "cmvn.ark:1: expected"),
        (ARCHIVE.replace("60", "sixty"), "cmvn.ark:1: expected"),
        (ARCHIVE.replace("60", "nan"), "cmvn.ark:1: not statistics"),
        (ARCHIVE.replace("60 3", "60 0"), "cmvn.ark:1: not statistics"),
        (ARCHIVE.replace("60 3", "60 -3"), "cmvn.ark:1: not statistics"),
        (ARCHIVE + ARCHIVE, "cmvn.ark:4: global is there twice"),
        ("", "cmvn.ark: empty"),
    ],
)
def test_bad_archives(tmp_path, text, message):
    path = tmp_path / "cmvn.ark"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_stats(path)


def test_binary_and_missing_archives(tmp_path):
    path = tmp_path / "cmvn.ark"
    path.write_bytes(b"global \0BDM \x04\xff\xfe")
    with pytest.raises(InputError, match=r"cmvn.ark: cannot read"):
        read_stats(path)
    with pytest.raises(InputError, match=r"no.ark: cannot read"):
        read_stats(tmp_path / "no.ark")
