"""Corpora of many utterances that share their audio."""

import sys

import pytest

from asr.bench import scale
from asr.config import BatchConfig, ShardConfig
from asr.corpus.datadir import DataDir
from asr.corpus.shards import Shards
from asr.text.tokenizer import CharTokenizer


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_start_of_a_training_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "PER_SHARD", 20)
    monkeypatch.setattr(scale, "PER_SPEAKER", 15)
    monkeypatch.setattr(scale, "BATCHES", 3)
    monkeypatch.setattr(scale, "BATCH", BatchConfig(seconds=4.0))
    clips = scale._make_recordings(tmp_path / "audio", 1)
    scale._make_directory(tmp_path / "dev", 2, scale._make_recordings(tmp_path / "other", 2), "dev")
    scale._make_directory(tmp_path / "directory", 60, clips, "train")
    scale._make_shards(tmp_path / "shards", 60, clips)
    CharTokenizer.from_texts([*scale.WORDS, "A B"]).to_file(tmp_path / "tokens.txt")
    utterances = DataDir.load(tmp_path / "directory").utterances
    shards = Shards(f"{tmp_path}/shards/*.tar", ShardConfig())
    assert len(shards.index.shards) == 3
    for number in (0, 19, 20, 59):
        ours, theirs = shards[number], utterances[number]
        assert (ours.id, ours.duration_s) == (theirs.id, theirs.duration_s)
        speakers = shards.index.texts("speakers")
        assert speakers[shards.index.arrays["speaker"][number]] == theirs.speaker
    for train in (tmp_path / "directory", f"{tmp_path}/shards/*.tar"):
        found = scale.measure(str(tmp_path), str(train))
        assert found["first_batch_s"] > found["open_s"] > 0 < found["utterances_per_s"]
        assert found["main_peak_mb"] > found["loader_mb"] > 0
