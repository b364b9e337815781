"""If channels cancel each other, one of them is read, from files as well as arrays."""

import io

import numpy as np
import pytest
import soundfile
import torch

from asr.audio.arrays import ArrayReader
from asr.audio.clip import Clip, blocks, read
from asr.errors import InputError

RATE = 16000
SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE).astype(np.float32)
OTHER = np.random.default_rng(1).uniform(-0.5, 0.5, 3 * RATE).astype(np.float32)


def encode(*channels):
    file = io.BytesIO()
    soundfile.write(file, np.stack(channels, 1), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def in_every_way(tmp_path, *channels):
    """Return what files, blocks, clips, arrays and streams of arrays give, which is the same."""
    path = tmp_path / "two.wav"
    path.write_bytes(encode(*channels))
    whole = read(path)
    for block_s in (0.3, 0.7, 10):
        assert np.array_equal(np.concatenate(list(blocks(Clip(path), block_s=block_s))), whole)
    for start_s, end_s in ((0.0, 0.2), (0.7, 1.3), (1.0, 2.0), (2.9, 3.0)):
        part = whole[round(start_s * RATE) : round(end_s * RATE)]
        assert np.array_equal(read(Clip(path, start_s=start_s, end_s=end_s)), part)
        assert np.array_equal(
            np.concatenate(list(blocks(Clip(path, start_s, end_s), block_s=0.1))), part
        )
    samples = np.stack(channels, 1)
    assert np.array_equal(ArrayReader(RATE).whole(samples), whole)
    reader = ArrayReader(RATE)
    parts = [reader.push(part) for part in np.array_split(samples, 50)] + [reader.close()]
    assert np.array_equal(np.concatenate(parts), whole)
    return whole


@pytest.mark.parametrize("share", [1.0, 0.9, 0.6])
def test_opposite_channels_give_the_first(share, tmp_path, capsys):
    found = in_every_way(tmp_path, SOUND, -share * SOUND)
    assert np.array_equal(found, SOUND)
    said = capsys.readouterr().err
    assert said.count("two.wav: its channels cancel each other") == 1
    assert said.count("samples: its channels cancel each other") == 1


def test_sound_that_is_opposite_and_noise_that_is_not(tmp_path):
    found = in_every_way(tmp_path, SOUND + 0.1 * OTHER, -SOUND + 0.1 * OTHER)
    assert np.corrcoef(found, SOUND)[0, 1] > 0.9


def test_channels_that_are_opposite_for_a_time(tmp_path):
    sign = np.where(np.arange(len(SOUND)) < RATE, -1, 1).astype(np.float32)
    found = in_every_way(tmp_path, SOUND, sign * SOUND)
    assert np.array_equal(found, SOUND)


def test_a_clip_may_end_within_the_last_half_second():
    data = encode(SOUND[: round(0.7 * RATE)], OTHER[: round(0.7 * RATE)])
    assert len(read(Clip(data, 0.55, 0.6))) == round(0.05 * RATE)


def test_three_channels_of_which_two_cancel(tmp_path):
    found = in_every_way(tmp_path, 0 * SOUND, SOUND, -SOUND)
    assert np.array_equal(found, SOUND)


@pytest.mark.parametrize("right", [SOUND, OTHER, 0 * SOUND, -0.2 * SOUND, SOUND[::-1]])
def test_other_channels_are_averaged_without_a_word(right, tmp_path, capsys):
    found = in_every_way(tmp_path, SOUND, right)
    np.testing.assert_allclose(found, (SOUND + right) / 2, atol=1e-6)
    assert capsys.readouterr().err == ""


def test_a_constant_in_silence_does_not_count(tmp_path, capsys):
    silence = np.full_like(SOUND, 0.01)
    assert not in_every_way(tmp_path, silence, -silence).any()
    assert capsys.readouterr().err == ""


# Types of numbers.

WAVE = np.array([0.0, 0.5, -0.5, 0.25, -1.0])


@pytest.mark.parametrize(
    ("type", "middle", "scale"),
    [
        *(("int8", 0, 2**7), ("uint8", 2**7, 2**7), ("int16", 0, 2**15), ("uint16", 2**15, 2**15)),
        *(("int32", 0, 2**15), ("int32", 0, 2**23), ("int32", 0, 2**31)),
        *(("int64", 0, 2**15), ("int64", 0, 2**31), ("int64", 0, 2**63)),
        *(("uint32", 2**15, 2**15), ("uint32", 2**31, 2**31), (">i2", 0, 2**15), ("float64", 0, 1)),
        *(("float16", 0, 1), (">f4", 0, 1)),
    ],
)
def test_samples_of_every_type_have_their_middle_and_full_scale(type, middle, scale):
    samples = np.array([int(v * scale) + middle if scale > 1 else v for v in WAVE], type)
    assert ArrayReader(RATE).whole(samples).tolist() == WAVE.tolist()


@pytest.mark.parametrize(("type", "quiet"), [("int32", 2.0**-21), ("int64", 2.0**-5)])
def test_a_stream_of_wide_integers(type, quiet):
    """32 bits have their full scale from the first block on; 64 bits that which they have shown."""
    reader = ArrayReader(RATE)
    for samples, expected in ([2**10], [quiet]), ([2**30], [0.5]), ([2**10], [2.0**-21]):
        assert reader.push(np.array(samples, type)).tolist() == expected


def test_an_empty_block_changes_nothing():
    sound = np.random.default_rng(0).normal(0, 0.1, 8000)
    stereo = np.stack([sound, -0.9 * sound], 1)
    found = []
    for parts in ([stereo], [stereo[:3000], stereo[:0], stereo[3000:]]):
        reader = ArrayReader(RATE)
        found.append(np.concatenate([*map(reader.push, parts), reader.close()]))
    np.testing.assert_array_equal(*found)


def test_a_stream_may_end_with_one_sample_of_each_channel():
    reader = ArrayReader(RATE)
    with pytest.raises(InputError, match="more channels than samples"):
        reader.push(np.zeros((1, 2), "f"))
    reader.push(np.zeros((160, 2), "f"))
    reader.push(np.ones((1, 2), "f"))
    assert reader.close()[-1] == 1


def test_tensors_and_lists():
    assert ArrayReader(RATE).whole(torch.tensor([128, 192], dtype=torch.uint8)).tolist() == [0, 0.5]
    assert ArrayReader(RATE).whole(torch.tensor([0.5], dtype=torch.bfloat16)).tolist() == [0.5]
    assert ArrayReader(RATE).whole([0, 16384]).tolist() == [0, 0.5]
    assert len(ArrayReader(RATE).whole(np.zeros(0, "int64"))) == 0


@pytest.mark.parametrize("rate", [0, -1, 22050.5, float("nan"), float("inf"), "16000", None])
def test_a_rate_is_a_whole_number(rate):
    with pytest.raises(InputError, match="expected a whole number of samples per second"):
        ArrayReader(rate)


def test_a_ragged_list_is_refused():
    with pytest.raises(InputError, match="samples that are no array"):
        ArrayReader(16000.0).whole([[1, 2], [3]])


@pytest.mark.parametrize("samples", [[True], [1j], ["a"], [None], [[]], 0.5, [float("nan")]])
def test_invalid_samples_are_refused(samples):
    with pytest.raises(InputError, match="expected f"):
        ArrayReader(RATE).whole(np.array(samples))
