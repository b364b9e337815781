"""Planning of batches, and copies and sums of utterances."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from asr.config import AugmentConfig, BatchConfig, EncoderConfig, FeatureConfig
from asr.corpus.datadir import Utterance
from asr.text.tokenizer import CharTokenizer
from asr.train.loader import load_batches
from asr.train.plan import cut_batch, largest_batch, plan_batches, plan_group
from asr.train.utterances import UtteranceSet

FEATURES = FeatureConfig(mel_bins=20, cmvn="none")


def noise(folder, lengths_s):
    """Utterances of noise, A, B, C and so on."""
    utterances = []
    for i, length_s in enumerate(lengths_s):
        path = folder / f"{i}.wav"
        soundfile.write(path, (0.1 * torch.randn(int(16000 * length_s))).numpy(), 16000)
        name = f"u{i}"
        utterances.append(Utterance(name, name, name, str(path), 0.0, None, "ABC"[i], length_s))
    return utterances


def test_batches_have_similar_lengths_within_the_budget():
    plan = plan_batches([1.0, 4.0, 1.5, 3.5], BatchConfig(seconds=8.0))
    assert plan == [[(0, 0), (0, 2)], [(0, 3), (0, 1)]]  # 3 x 3.5 s would be 10.5 s
    assert plan_batches([1.0] * 5, BatchConfig(seconds=99.0, max_utterances=2))[0] == [
        (0, 0),
        (0, 1),
    ]


def test_a_shuffled_batch_is_within_the_budget_by_its_longest_utterance():
    durations, config = [1.0 + 0.01 * i for i in range(500)], BatchConfig(seconds=60.0)
    for n in range(5):
        plan = plan_group(durations, config, [0, n])
        batches = map(plan.batch, range(len(plan.ends)))
        assert max(len(batch) * max(durations[i] for i in batch) for batch in batches) <= 60.0


def test_the_largest_batch_is_looked_for_among_the_longest_utterances(monkeypatch):
    monkeypatch.setattr("asr.train.plan.LONGEST", 2)
    durations = np.array([9.0, 1.0, 2.0, 8.0])
    assert sorted(largest_batch(durations, BatchConfig(seconds=20.0))) == [(0, 0), (0, 3)]


def test_the_largest_micro_batch_is_as_short_as_possible():
    found = cut_batch([(0, i) for i in range(5)], [1.0, 1.0, 1.0, 2.0, 2.0], 3)
    assert found == [[(0, 0), (0, 1), (0, 2)], [(0, 3)], [(0, 4)]]


def test_every_pass_has_its_own_order():
    durations = [1.0 + 0.01 * i for i in range(50)]
    config = BatchConfig(seconds=5.0)
    first, second, again = (plan_group(durations, config, [1, n]).order.tolist() for n in (1, 2, 1))
    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(50))


def test_every_pass_has_its_own_batches():
    durations, config = [1.0 + 0.01 * i for i in range(50)], BatchConfig(seconds=5.0)
    plans = [plan_group(durations, config, [1, n]) for n in (1, 2)]
    one, two = ({frozenset(p.batch(n)) for n in range(len(p.ends))} for p in plans)
    assert one != two


def test_batches_are_not_in_the_order_of_their_lengths():
    lengths = [2.0**i for i in range(20)]  # far more than the jitter apart
    assert plan_group(lengths, BatchConfig(seconds=1.0), [1, 0]).order.tolist() != list(range(20))


@pytest.mark.parametrize(("text", "frames"), [("AB", {61, 48, 38}), ("AB" * 6, {61, 48})])
def test_speech_is_not_made_faster_than_ctc_can_write(tmp_path, text, frames):
    """Of 0.5 s, 12 encoder steps are left at speed 1, and 10 at speed 1.25."""
    utterances = [replace(noise(tmp_path, [0.5])[0], text=text)]
    augment = AugmentConfig(speeds=(0.8, 1.0, 1.25))
    data = UtteranceSet(utterances, CharTokenizer.from_texts(["A B"]), FEATURES, None, {}, augment)
    data.encoder = EncoderConfig(pyramid=(2, 2))
    assert {int(data.batch([(n, 0)]).frames) for n in range(30)} == frames


def features_of(utterances, config, vtln, passes):
    """The features of the first utterance in some passes, with no augmentation but VTLN."""
    augment = AugmentConfig(speeds=(1.0,), volume_db=0.0, vtln=vtln, freq_masks=0, time_masks=0)
    data = UtteranceSet(utterances, CharTokenizer.from_texts(["A"]), config, None, {}, augment)
    return [data.batch([(number, 0)]).features for number in passes]


def test_vtln_warps_the_features(tmp_path):
    utterances = noise(tmp_path, [0.5])
    (plain,), (warped,) = (features_of(utterances, FEATURES, vtln, [0]) for vtln in (0.0, 0.1))
    assert not plain.allclose(warped, atol=0.01)


def test_dither_follows_from_the_pass(tmp_path):
    config = replace(FEATURES, dither=1.0)
    first, again, second = features_of(noise(tmp_path, [0.5]), config, 0.0, [0, 0, 1])
    assert first.equal(again) and not first.equal(second)


def test_copies_differ_only_in_their_masks(tmp_path):
    utterances = noise(tmp_path, [0.5, 0.8])
    tokenizer = CharTokenizer.from_texts(["A B C"])
    augment = AugmentConfig(vtln=0.1, freq_width=8, time_width=10)
    dataset = UtteranceSet(utterances, tokenizer, FEATURES, None, {}, augment, 1, copies=2)
    (batch,) = load_batches(dataset, [[(0, 0), (0, 1)]])
    assert batch.ids == ("u0", "u1", "u0", "u1")
    assert batch.frames[:2].equal(batch.frames[2:])
    assert batch.tokens[:2].equal(batch.tokens[2:])
    first, second = batch.features[:2], batch.features[2:]
    unmasked = (first != 0) & (second != 0)
    assert first[unmasked].equal(second[unmasked])
    assert not first.equal(second)
