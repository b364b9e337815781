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


def test_utterances_that_are_too_short_for_their_transcript_are_added_to_no_other(tmp_path):
    utterances = [*noise(tmp_path, [0.5, 0.6]), replace(noise(tmp_path, [0.5])[0], text="A" * 40)]
    augment = AugmentConfig(speeds=(1.0,), mix_prob=1.0)
    mixing = UtteranceSet(
        utterances, CharTokenizer.from_texts(["A B C"]), FEATURES, None, {}, augment
    )
    mixing.encoder = EncoderConfig(pyramid=(2, 2))
    found = [mixing.batch([(n, 0)]) for n in range(20)]
    assert max(int(batch.lengths.max()) for batch in found) == 1
    assert {batch.weights is None for batch in found} == {True, False}


def test_an_utterance_is_mixed_with_those_beside_it_in_length(tmp_path, monkeypatch):
    """Never with itself, also where all are equally long."""
    monkeypatch.setattr("asr.train.utterances.NEAR", 1)
    tokenizer, augment = CharTokenizer.from_texts(["ABC"]), AugmentConfig(mix_prob=1.0)
    utterances = noise(tmp_path, [0.5, 0.5, 0.5])
    mixing = UtteranceSet(utterances, tokenizer, FEATURES, None, {}, augment)
    found = [
        {
            tokenizer.decode(mixing.batch([(number, place)]).tokens[1].tolist())
            for number in range(9)
        }
        for place in range(3)
    ]
    assert found == [{"B"}, {"A", "C"}, {"B"}]
    alone = UtteranceSet(utterances[:1], tokenizer, FEATURES, None, {}, augment)
    assert alone.batch([(0, 0)]).weights is None


def test_mixed_utterances_are_weighted_sums_with_both_transcripts(tmp_path):
    utterances = noise(tmp_path, [0.5, 0.8, 0.6])
    tokenizer = CharTokenizer.from_texts(["A B C"])
    augment = AugmentConfig(speeds=(1.0,), volume_db=0.0, freq_masks=0, time_masks=0)
    common = tokenizer, FEATURES, None, {}
    plain = UtteranceSet(utterances, *common, augment).batch([(0, i) for i in range(3)])
    mixing = UtteranceSet(utterances, *common, replace(augment, mix_prob=0.5, mix_alpha=2.0))
    keys, mixed = [(0, i % 3) for i in range(3)] + [(n, 1) for n in range(1, 20)], 0
    for key in keys:
        batch, before = mixing.batch([key]), plain.features[key[1], : plain.frames[key[1]]]
        if batch.weights is None:
            assert batch.features[0].equal(before)
            continue
        mixed += 1
        w, rest = batch.weights.tolist()
        assert w + rest == pytest.approx(1.0) and batch.features[0].equal(batch.features[1])
        sums = [
            torch.nn.functional.pad(w * before, (0, 0, 0, 99))[:99]
            + torch.nn.functional.pad(rest * x[:frames], (0, 0, 0, 99))[:99]
            for x, frames in zip(plain.features, plain.frames, strict=True)
        ]
        found = torch.nn.functional.pad(batch.features[0], (0, 0, 0, 99))[:99]
        (partner,) = [i for i, each in enumerate(sums) if torch.allclose(each, found, atol=1e-5)]
        ends = [plain.tokens[i, : plain.lengths[i]].tolist() for i in (key[1], partner)]
        rows = zip(batch.tokens, batch.lengths, strict=True)
        assert [row[:length].tolist() for row, length in rows] == ends
    assert 5 <= mixed <= 17
    together = mixing.batch(keys)
    assert len(together.ids) == len(keys) + mixed
    assert together.count.utterances == pytest.approx(len(keys))
    assert together.audio_s < together.frames.sum() / 100


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
