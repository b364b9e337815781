"""Planning of batches, and copies and sums of utterances."""

from dataclasses import replace

import pytest
import soundfile
import torch

from asr.config import AugmentConfig, BatchConfig, EncoderConfig, FeatureConfig
from asr.corpus.datadir import Utterance
from asr.text.tokenizer import CharTokenizer
from asr.train.loader import load_batches
from asr.train.plan import plan_batches, plan_group
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


def test_every_pass_has_its_own_order():
    durations = [1.0 + 0.01 * i for i in range(50)]
    config = BatchConfig(seconds=5.0)
    first, second, again = (plan_group(durations, config, [1, n]).order.tolist() for n in (1, 2, 1))
    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(50))


@pytest.mark.parametrize(("text", "frames"), [("AB", {61, 48, 38}), ("AB" * 6, {61, 48})])
def test_speech_is_not_made_faster_than_ctc_can_write(tmp_path, text, frames):
    """Of 0.5 s, 12 encoder steps are left at speed 1, and 10 at speed 1.25."""
    utterances = [replace(noise(tmp_path, [0.5])[0], text=text)]
    augment = AugmentConfig(speeds=(0.8, 1.0, 1.25))
    data = UtteranceSet(utterances, CharTokenizer.from_texts(["A B"]), FEATURES, None, {}, augment)
    data.encoder = EncoderConfig(pyramid=(2, 2))
    assert {int(data.batch([(n, 0)]).frames) for n in range(30)} == frames


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
