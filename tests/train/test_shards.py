"""Training from tar shards: the same samples and losses as from files, resumable, checked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from servers import make_certificate, serving

from asr.config import BatchConfig, FeatureConfig, ShardConfig, TrainConfig
from asr.corpus import remote
from asr.corpus.shard_writing import Options, write_shards
from asr.corpus.shards import Shards
from asr.errors import InputError
from asr.text.tokenizer import CharTokenizer
from asr.train.loop import Interrupted, Training
from asr.train.plan import EpochPlan
from asr.train.rank import Rank
from asr.train.shards import ShardSet

FEATURES = FeatureConfig(mel_bins=20)
ALONE = Rank(torch.device("cpu"))


@pytest.fixture(scope="module")
def shards(tone_corpus, tmp_path_factory) -> Path:
    """Twelve utterances in four shards."""
    out = tmp_path_factory.mktemp("shards")
    list(write_shards(tone_corpus / "train", out, Options(FEATURES, utterances=3)))
    return out


def start(config: TrainConfig, corpus: Path, train: object, out: Path, **options) -> Training:
    dev, tokens = (str(corpus / name) for name in ("dev", "tokens.txt"))
    return Training(config, str(train), dev, tokens, out, **options)


def losses(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [(e["step"], e["loss"]) for e in lines if e["kind"] == "step"]


@pytest.fixture
def one_epoch(tiny_training) -> TrainConfig:
    return replace(tiny_training, epochs=1, average=1)


def test_a_server_that_fails_one_request_in_twenty_gives_the_losses_of_files(
    tone_corpus, one_epoch, shards, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
    start(one_epoch, tone_corpus, tone_corpus / "train", tmp_path / "files").run()
    start(one_epoch, tone_corpus, f"{shards}/*.tar", tmp_path / "shards").run()
    config = replace(one_epoch, batch=replace(one_epoch.batch, workers=2))
    with serving(shards) as server:
        server.every = 20
        start(config, tone_corpus, f"{server.url}/*.tar", tmp_path / "server").run()
    assert server.requests > 20  # at least one has failed
    expected = losses(tmp_path / "files")
    assert len(expected) > 4
    assert losses(tmp_path / "shards") == expected
    assert losses(tmp_path / "server") == expected


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates")
def test_training_from_an_https_server_whose_ca_is_trusted(
    tone_corpus, one_epoch, shards, tmp_path, monkeypatch
):
    ca, certificate, key = make_certificate(tmp_path)
    start(one_epoch, tone_corpus, f"{shards}/*.tar", tmp_path / "shards").run()
    config = replace(one_epoch, batch=replace(one_epoch.batch, workers=2))
    with serving(shards) as server:
        server.encrypt(certificate, key)
        url, out = f"{server.url}/*.tar", tmp_path / "server"
        remote._opener.cache_clear()
        with pytest.raises(InputError, match=r"not trusted \(unable .*set SSL_CERT_FILE") as error:
            start(config, tone_corpus, url, out)
        assert "\n" not in str(error.value) and server.requests == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        remote._opener.cache_clear()
        start(config, tone_corpus, url, out).run()
    remote._opener.cache_clear()
    assert losses(out) == losses(tmp_path / "shards")


def test_a_stopped_training_goes_on_with_the_next_sample(tone_corpus, one_epoch, shards, tmp_path):
    config = replace(one_epoch, shards=ShardConfig(group=1))
    start(config, tone_corpus, f"{shards}/*.tar", tmp_path / "whole").run()
    stopped = start(config, tone_corpus, f"{shards}/*.tar", tmp_path / "parts")
    step, stopped.step = stopped.step, lambda *args: (stopped.stop(), step(*args))[1]
    for name in ("gradient", "local_gradient"):
        if hasattr(step, name):
            setattr(stopped.step, name, getattr(step, name))
    with pytest.raises(Interrupted):
        stopped.run()
    start(config, tone_corpus, f"{shards}/*.tar", tmp_path / "parts").run()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def dataset(shards: Path, tone_corpus: Path, **config) -> ShardSet:
    read = Shards(f"{shards}/*.tar", ShardConfig(**config))
    tokenizer = CharTokenizer.from_file(tone_corpus / "tokens.txt")
    common = FEATURES, read.index.total_stats, TrainConfig().augment
    return ShardSet(read, tokenizer, *common, seed=1, copies=1)


def settings(**batch) -> TrainConfig:
    return TrainConfig(batch=BatchConfig(max_utterances=2, **batch), passes=2)


def test_a_pass_has_every_utterance_once_in_groups_of_shards(shards, tone_corpus):
    data = dataset(shards, tone_corpus, group=2)
    plan = EpochPlan(data, settings(), 1, ALONE)
    batches = list(plan.batches())
    assert len(batches) == plan.steps == 12
    for number, part in ((2, batches[:6]), (3, batches[6:])):
        keys = [key for batch in part for key in batch]
        assert sorted(keys) == [(number, i) for i in range(12)]
        assert {i // 3 for _, i in keys[:6]}.isdisjoint({i // 3 for _, i in keys[6:]})
    orders = {tuple(data.group(number, 0).tolist()) for number in range(20)}
    assert len(orders) > 3
    again = EpochPlan(data, settings(), 1, ALONE)
    assert [again.micro_batches(i) for i in (11, 0, 5)] == [[batches[i]] for i in (11, 0, 5)]
    assert list(again.batches(7)) == batches[7:]


def test_only_the_first_group_of_the_first_pass_is_sorted(shards, tone_corpus):
    data = dataset(shards, tone_corpus, group=2)
    durations = [
        [data.durations_s[key[1]] for key in batch]
        for batch in EpochPlan(data, replace(settings(), passes=1), 0, ALONE).batches()
    ]
    first = [d for batch in durations[:3] for d in batch]
    assert first == sorted(first)


def test_processes_share_the_batches(shards, tone_corpus):
    data, whole = dataset(shards, tone_corpus, group=2), []
    for index in range(2):
        rank = Rank(torch.device("cpu"))
        rank.index, rank.count = index, 2
        whole.append(EpochPlan(data, settings(accumulate=2), 0, rank))
    alone = EpochPlan(data, settings(), 0, ALONE)
    for step, batch in enumerate(alone.batches()):
        micro_batches = [
            key for plan in whole for share in plan.micro_batches(step) for key in share
        ]
        assert sorted(micro_batches) == sorted(batch)


def test_a_missing_shard_ends_the_training_or_is_left_out(
    tone_corpus, one_epoch, shards, tmp_path, capsys
):
    shutil.copytree(shards, tmp_path / "shards")
    training = start(one_epoch, tone_corpus, f"{tmp_path}/shards/*.tar", tmp_path / "las")
    (tmp_path / "shards" / "train-000002.tar").unlink()
    with pytest.raises(InputError, match=r"train-000002\.tar: no such file.*--shards\.missing"):
        training.run()
    allowed = replace(one_epoch, shards=ShardConfig(missing=1))
    start(allowed, tone_corpus, f"{tmp_path}/shards/*.tar", tmp_path / "las").run()
    log = (tmp_path / "las" / "log" / "train.txt").read_text()
    assert log.count("left out: s1-") == allowed.passes and "train-000002.tar: no such file" in log
    assert "train-000002.tar: no such file; left out" in capsys.readouterr().err


def test_shards_are_checked_by_their_index(tone_corpus, one_epoch, shards, tmp_path):
    def fail(message: str, train: Path = shards, corpus: Path = tone_corpus, **changes) -> None:
        with pytest.raises(InputError, match=message):
            start(replace(one_epoch, **changes), corpus, f"{train}/*.tar", tmp_path / "las")

    fail("mel_bins was 20, is 30", features=FeatureConfig(mel_bins=30))
    deep = replace(one_epoch.model.encoder, pyramid=(8, 8, 8))
    fail("audio is too short for", model=replace(one_epoch.model, encoder=deep))
    CharTokenizer.from_texts(["AB "]).to_file(tmp_path / "tokens.txt")
    (tmp_path / "dev").symlink_to(tone_corpus / "dev")
    fail(r"without a token: 'C' \(first in s1-02\)", corpus=tmp_path)
    list(write_shards(tone_corpus / "dev", tmp_path / "dev_shards", Options(FEATURES)))
    fail("the training and the dev set share 2 utterances", train=tmp_path / "dev_shards")
