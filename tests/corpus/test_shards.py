"""Tar shards: layout, index, resuming, and reading from disk and from unreliable servers."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from servers import serving

from asr.audio.clip import read
from asr.cli import main
from asr.config import FeatureConfig, ShardConfig
from asr.corpus import jobs, remote, shard_writing
from asr.corpus.datadir import DataDir
from asr.corpus.feature_statistics import check_settings, gather, read_speaker_stats
from asr.corpus.shard_index import COLUMNS, lines_of, open_index
from asr.corpus.shard_writing import Options, encoded, index_shards, key_of, write_shards
from asr.corpus.shards import Shards, expanded
from asr.errors import InputError
from asr.files import locked

FEATURES = FeatureConfig(mel_bins=20)
QUICK = ShardConfig(timeout_s=2, tries=4)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Seven utterances of two speakers, with awkward ids."""
    data = tmp_path / "data"
    data.mkdir()
    random = np.random.default_rng(1)
    ids = ["a-1", "a-2.x", "a-3%", "b-1/2", "b-2~", "b-é", "b-" + "x" * 120]
    tables: dict[str, list[str]] = {name: [] for name in ("wav.scp", "text", "utt2spk")}
    for i, name in enumerate(ids):
        path = tmp_path / f"{i}.wav"
        samples = random.integers(-9000, 9000, 8000 + 997 * i).astype(np.int16)
        samples[:2] = (-32768, 32767)
        soundfile.write(path, samples, 16000)
        tables["wav.scp"].append(f"{name} {path}")
        tables["text"].append(f"{name} WORD NUMBER {'ABCDEFG'[i]}É")
        tables["utt2spk"].append(f"{name} {name[0]}")
    for table, lines in tables.items():
        (data / table).write_text("".join(f"{line}\n" for line in sorted(lines)))
    main(["data", "fix", str(data)])
    gather(data, FEATURES)
    return data


def shard(corpus: Path, out: Path, **options: object) -> Path:
    list(write_shards(corpus, out, Options(FEATURES, utterances=3, **options)))
    return out


def samples_of_webdataset(path: Path) -> list[dict[str, bytes]]:
    """Read a shard as WebDataset does: neighbours with the same name up to the first dot."""
    found: list[dict[str, bytes]] = []
    with tarfile.open(path) as tar:
        for member in tar:
            key, suffix = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member.name).groups()
            if not found or found[-1]["__key__"] != key.encode():
                found.append({"__key__": key.encode()})
            found[-1][suffix] = tar.extractfile(member).read()
    return found


def test_a_plain_reader_of_the_webdataset_layout_reads_the_shards(corpus, tmp_path):
    out = shard(corpus, tmp_path / "shards")
    paths = sorted(out.glob("*.tar"))
    assert [p.name for p in paths] == [f"train-{i:06d}.tar" for i in range(3)]
    samples = [s for path in paths for s in samples_of_webdataset(path)]
    utterances = DataDir.load(corpus).utterances
    assert [s.keys() for s in samples] == [{"__key__", "flac", "json"}] * 7
    for sample, utterance in zip(samples, utterances, strict=True):
        about = json.loads(sample["json"])
        assert about["id"] == utterance.id and sample["__key__"].decode() == key_of(utterance.id)
        assert (about["text"], about["speaker"]) == (utterance.text, utterance.speaker)
        waveform = read(utterance.clip)
        assert np.array_equal(read(sample["flac"]), waveform)
        assert about["duration"] == len(waveform) / 16000
    assert sorted(p.name for p in out.iterdir()) == ["index.safetensors", *[p.name for p in paths]]


def test_names_in_a_shard_are_unique_and_have_one_dot():
    ids = ["a.b", "a%2Eb", "a/b", "a b", "a~b", "ä", "a", "A"]
    keys = [key_of(each) for each in ids]
    assert len(set(keys)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_%-]+", key) for key in keys)


def test_the_index_says_what_the_data_directory_says(corpus, tmp_path):
    index = open_index(shard(corpus, tmp_path / "shards") / "index.safetensors")
    utterances = DataDir.load(corpus).utterances
    assert index.texts("ids") == [u.id for u in utterances]
    assert [index.id_of(i) for i in range(7)] == [u.id for u in utterances]
    assert index.arrays["duration_s"].tolist() == [u.duration_s for u in utterances]
    speakers = index.texts("speakers")
    assert [speakers[i] for i in index.arrays["speaker"]] == [u.speaker for u in utterances]
    theirs = read_speaker_stats(corpus, FEATURES)
    assert index.speaker_stats().keys() == theirs.keys()
    for speaker, stats in index.speaker_stats().items():
        assert stats.count == theirs[speaker].count
        assert np.allclose(stats.sum, theirs[speaker].sum, rtol=1e-13)
        assert np.allclose(stats.square_sum, theirs[speaker].square_sum, rtol=1e-13)
    assert index.total_stats.count == sum(s.count for s in theirs.values())
    assert set(index.texts("words")) == {w for u in utterances for w in u.text.split()}
    assert index.info["characters"]["É"] == "a-1"


def test_the_same_directory_gives_the_same_bytes_with_any_number_of_processes(corpus, tmp_path):
    one, two = shard(corpus, tmp_path / "one"), tmp_path / "two"
    list(write_shards(corpus, two, Options(FEATURES, utterances=3), 2))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name


def test_files_of_the_format_are_copied_and_others_are_encoded(tmp_path, make):
    path = tmp_path / "audio" / "a.opus"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 16000), 16000, format="OGG",
                    subtype="OPUS")  # fmt: skip
    data = make(wav_scp=f"s1-a {path}\ns1-b {path}\ns2-a {path}\n")
    whole = DataDir.load(data).utterances[0]
    assert encoded(whole, Options(FEATURES, "opus")) == path.read_bytes()
    assert encoded(whole, Options(FEATURES)).startswith(b"fLaC")
    slow = Options(FeatureConfig(sample_rate=8000), "opus")
    assert soundfile.info(io.BytesIO(encoded(whole, slow))).samplerate == 8000


def test_segments_have_the_samples_of_their_span(segmented, tmp_path):
    out = tmp_path / "shards"
    list(write_shards(segmented, out, Options(FEATURES)))
    shards = Shards(f"{out}/*.tar", ShardConfig())
    for number, utterance in enumerate(DataDir.load(segmented).utterances):
        assert np.array_equal(read(shards[number].clip), read(utterance.clip))


def test_a_killed_writer_goes_on(corpus, tmp_path):
    """It is killed in its second shard; the first is kept, and no temporary file is left."""
    out, whole = tmp_path / "shards", shard(corpus, tmp_path / "whole")
    program = (
        "import os, sys, signal\n"
        "from asr.corpus import shard_writing as w\n"
        "from asr.config import FeatureConfig\n"
        "encoded = w.encoded\n"
        "def killed(utterance, *rest):\n"
        "    if utterance.id == 'b-1/2': os.kill(os.getppid(), 9), os.kill(os.getpid(), 9)\n"
        "    return encoded(utterance, *rest)\n"
        "w.encoded = killed\n"
        "options = w.Options(FeatureConfig(mel_bins=20), utterances=3)\n"
        "list(w.write_shards(sys.argv[1], sys.argv[2], options))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(corpus), str(out)])
    assert done.returncode == -signal.SIGKILL
    first = out / "train-000000.tar"
    before = first.stat().st_mtime_ns
    assert list(out.glob(".*.tmp"))
    (out / ".other.tmp").touch()  # of another program
    shard(corpus, out)
    (out / ".other.tmp").unlink()
    assert first.stat().st_mtime_ns == before
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    for path in whole.iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_a_finished_folder_is_kept_and_other_data_are_refused(corpus, tmp_path):
    out = shard(corpus, tmp_path / "shards")
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    shard(corpus, out)
    assert before == {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    with pytest.raises(InputError, match="other data, or written with other options"):
        shard(corpus, out, format="opus")


def test_shards_of_changed_recordings_are_written_again(corpus, tmp_path):
    out = shard(corpus, tmp_path / "shards")
    second = (out / "train-000001.tar").stat().st_mtime_ns
    soundfile.write(tmp_path / "0.wav", np.zeros(8000, np.int16), 16000)
    shard(corpus, out)
    assert not read(Shards(f"{out}/*.tar", ShardConfig())[0].clip).any()
    assert (out / "train-000001.tar").stat().st_mtime_ns == second


def test_a_second_process_writes_no_shards(corpus, tmp_path):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(InputError, match="another process is writing"):
        shard(corpus, tmp_path / "out")


def test_recordings_beyond_full_scale_are_refused(corpus, tmp_path):
    loud = np.array([0.5, -1.5] * 4000, np.float32)
    soundfile.write(tmp_path / "0.wav", loud, 16000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"a-1: 50 % of the samples are beyond full scale"):
        shard(corpus, tmp_path / "out")


def test_shards_are_kept_with_other_features_and_indexed_again(corpus, tmp_path):
    out = shard(corpus, tmp_path / "shards")
    tars = {p: p.stat().st_mtime_ns for p in out.glob("*.tar")}
    index = out / "index.safetensors"
    written = index.stat().st_mtime_ns
    list(write_shards(corpus, out, Options(replace(FEATURES, cmvn="speaker"), utterances=3)))
    assert index.stat().st_mtime_ns == written  # they do not depend on this
    for mel_bins in (40, 20):
        list(write_shards(corpus, out, Options(FeatureConfig(mel_bins=mel_bins), utterances=3)))
        assert open_index(index).info["settings"]["mel_bins"] == mel_bins
    assert tars == {p: p.stat().st_mtime_ns for p in out.glob("*.tar")}


def test_a_damaged_plan_is_named(corpus, tmp_path):
    plan = tmp_path / "out" / shard_writing.UNFINISHED / shard_writing.PLAN_FILE
    plan.parent.mkdir(parents=True)
    plan.write_text("{")
    with pytest.raises(InputError, match=r"plan.json: damaged \("):
        shard(corpus, tmp_path / "out")


def test_unreadable_audio_is_named(corpus, tmp_path):
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"not finished(.|\n)*a-2\.x: "):
        shard(corpus, tmp_path / "shards")
    assert not (tmp_path / "shards" / "index.safetensors").exists()


def test_a_new_index_for_other_features_and_for_shards_of_others(corpus, tmp_path):
    out = shard(corpus, tmp_path / "shards")
    index = open_index(out / "index.safetensors")
    with pytest.raises(InputError, match="mel_bins was 20, is 40"):
        check_settings(index.info["settings"], FeatureConfig(mel_bins=40), "index", "")
    list(index_shards(out, FeatureConfig(mel_bins=40)))
    again = open_index(out / "index.safetensors")
    check_settings(again.info["settings"], FeatureConfig(mel_bins=40), "index", "")
    for name in COLUMNS:
        assert np.array_equal(index.arrays[name], again.arrays[name])
    other, audio = tmp_path / "other", (tmp_path / "0.wav").read_bytes()
    of_others(other / "x.tar", b"A B", audio)
    list(index_shards(other, FEATURES))
    found = Shards(f"{other}/x.tar", ShardConfig())[0]
    assert (found.id, found.speaker, found.text) == ("dir/1", "dir/1", "A B")
    assert np.array_equal(read(found.clip), read(tmp_path / "0.wav"))


def of_others(path, text, audio, name="dir/1"):
    """A shard with one utterance by another program."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for suffix, content in (
            ("txt", b"ignored"),
            ("json", b'{"text": "%s"}' % text),
            ("wav", audio),
        ):
            member = tarfile.TarInfo(f"{name}.{suffix}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_a_shard_that_was_written_again_is_indexed_again(corpus, tmp_path):
    """It has the same size; the first run ended with an error in the other shard."""
    other, audio = tmp_path / "other", (tmp_path / "0.wav").read_bytes()
    of_others(other / "x.tar", b"A B", audio)
    of_others(other / "y.tar", b"C", b"damaged", "dir/2")
    with pytest.raises(InputError, match="not finished"):
        list(index_shards(other, FEATURES))
    of_others(other / "x.tar", b"B A A", audio)
    of_others(other / "y.tar", b"C", audio, "dir/2")
    list(index_shards(other, FEATURES))
    assert [u.text for u in Shards(f"{other}/*.tar", ShardConfig())] == ["B A A", "C"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.flac": b"x"}, "a has a.flac, expected a file of audio and a.json"),
        ({"a.flac": b"x", "a.json": b"[]"}, "the JSON of a: "),
        ({"a.flac": b"x", "a.json": b"[" * 100_000}, "the JSON of a: "),
        ({"a.flac": b"x", "a.json": b'{"text": ""}'}, "expected an object with the text"),
        ({"a.flac": b"x", "a.json": b'{"text": "A", "id": "a\\n"}'}, "a line feed in id"),
        ({"a.flac": b"x", "a.json": b'{"text": "A", "id": "\\ud800"}'}, "the JSON of a: "),
        ({"a.flac": b"x", "a.json": b'{"text": "A"}'}, "x.tar: a: a text file, expected wav"),
        ({"README": b"x"}, "no utterances"),
        ({"a.flac": b"x", "a.wav": b"x", "a.json": b"{}"}, "x.tar: a has two files of audio"),
    ],
)
def test_damaged_shards_are_described(tmp_path, content, message):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, value in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(value)
            tar.addfile(member, io.BytesIO(value))
    with pytest.raises(InputError, match=re.escape(message)):
        list(index_shards(tmp_path, FEATURES))


@pytest.mark.parametrize("damage", ["cut", "header"])
def test_a_shard_that_ends_early_is_refused(corpus, tmp_path, damage):
    out = shard(corpus, tmp_path / "shards")
    path = out / "train-000000.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-2].offset
    content = bytearray(path.read_bytes())
    content[last] ^= 1
    path.write_bytes(content if damage == "header" else content[:last])
    with pytest.raises(InputError, match=f"cut short or damaged at byte {last}"):
        list(index_shards(out, FEATURES))


def test_braces_are_those_of_a_shell():
    assert list(expanded("a{08..11}.tar")) == ["a08.tar", "a09.tar", "a10.tar", "a11.tar"]
    assert list(expanded("{a,b}{0..1}")) == ["a0", "a1", "b0", "b1"]
    with pytest.raises(InputError, match=r"\{2..0\} counts down; write the smaller number first"):
        list(expanded("a{2..0}.tar"))


def test_some_of_the_shards(corpus, tmp_path):
    out = shard(corpus, tmp_path / "shards")
    shards = Shards(f"{out}/train-{{000000,000002}}.tar", ShardConfig())
    ids = [u.id for u in DataDir.load(corpus).utterances]
    assert [shards[i].id for i in range(len(shards))] == ids[:3] + ids[6:]
    with pytest.raises(InputError, match=r"has no shard train-7\.tar"):
        Shards(f"{out}/train-7.tar", ShardConfig())


def test_a_missing_shard_is_named_and_left_out_only_if_that_is_allowed(corpus, tmp_path):
    out = shard(corpus, tmp_path / "shards")
    (out / "train-000001.tar").unlink()
    with pytest.raises(InputError, match=r"train-000001\.tar: no such file.*--shards\.missing N"):
        Shards(f"{out}/*.tar", ShardConfig())
    shards = Shards(f"{out}/*.tar", ShardConfig(missing=1))
    found = list(shards.fetch(range(7)))
    assert [isinstance(each, str) for each in found] == [i in (3, 4, 5) for i in range(7)]


def test_shards_that_do_not_fit_their_index_are_named(corpus, tmp_path):
    out = shard(corpus, tmp_path / "shards")
    path = out / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(InputError, match=r"train-000000\.tar: \d+ bytes, the index says \d+"):
        Shards(f"{out}/*.tar", ShardConfig())[0]
    index = open_index(out / "index.safetensors")
    for name, value in (("offset", 1 << 40), ("speaker", 7), ("id_end", 0)):
        kept, changed = index.arrays[name], index.arrays[name].copy()
        changed[-1] = value
        index.arrays[name] = changed
        index.save(out / "index.safetensors")
        index.arrays[name] = kept
        with pytest.raises(InputError, match="not an index, or damaged"):
            Shards(f"{out}/*.tar", ShardConfig())
    index.arrays["shards"] = lines_of(
        ["../train-000000.tar", "train-000001.tar", "train-000002.tar"]
    )
    index.save(out / "index.safetensors")
    with pytest.raises(InputError, match="a shard is outside of the folder"):
        Shards(f"{out}/*.tar", ShardConfig())
    (out / "index.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(InputError, match="not an index, or damaged"):
        Shards(f"{out}/*.tar", ShardConfig())
    (out / "index.safetensors").unlink()
    with pytest.raises(InputError, match="no such file; `asr data shard` writes it"):
        Shards(f"{out}/*.tar", ShardConfig())


@pytest.fixture
def server(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
    with serving(shard(corpus, tmp_path / "shards")) as server:
        yield server


def test_a_server_that_fails_is_asked_again(corpus, server):
    server.faults = ["503", "short", "slow", "", "429", "500", "", "short"]
    shards = Shards(f"{server.url}/*.tar", QUICK)
    found = list(shards.fetch(range(7)))
    assert not server.faults and server.dropped == 1
    for utterance, ours in zip(DataDir.load(corpus).utterances, found, strict=True):
        assert (ours.id, ours.text, ours.speaker) == (utterance.id, utterance.text,
                                                      utterance.speaker)  # fmt: skip
        assert np.array_equal(read(ours.clip), read(utterance.clip))


def test_a_server_that_always_fails_is_given_up(server):
    server.every = 1
    with pytest.raises(InputError, match=r"failed 4 times, the last time with: status 503"):
        Shards(f"{server.url}/*.tar", QUICK)
    assert server.requests == 4


def test_a_shard_that_the_server_does_not_have(server):
    shards = Shards(f"{server.url}/*.tar", QUICK)
    (server.folder / "train-000002.tar").unlink()
    with pytest.raises(InputError, match=r"train-000002\.tar: .*status 404.*--shards\.missing"):
        list(shards.fetch(range(7)))
    shards = Shards(f"{server.url}/train-{{000000..000002}}.tar", ShardConfig(missing=1))
    assert [isinstance(each, str) for each in shards.fetch(range(7))] == [False] * 6 + [True]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("whole", "use a server that supports range requests"),
        ("403", r"refused \(status 403"),
        ("to file:///etc", "file:.* is not allowed"),
        ("to ftp://127.0.0.1", "redirected to ftp:.*only http and https are followed"),
    ],
)
def test_answers_that_another_try_does_not_change(server, fault, message):
    server.faults = [fault]
    with pytest.raises(InputError, match=message):
        Shards(f"{server.url}/*.tar", QUICK)
    assert server.requests == 1


def test_a_redirect_is_followed(server):
    server.faults = [f"to {server.url}"]
    assert len(Shards(f"{server.url}/*.tar", QUICK)) == 7


def test_nobody_listens():
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/.*failed 1 times.*refused"):
        Shards("http://127.0.0.1:9/*.tar", ShardConfig(tries=1))


def test_commands(corpus, tmp_path, capsys):
    out = tmp_path / "shards"
    config = tmp_path / "train.yaml"
    config.write_text("features: {mel_bins: 20}\n")
    arguments = [str(corpus), "-o", str(out), "--utterances", "4", "--config", str(config)]
    assert main(["data", "shard", *arguments]) == 0
    assert "2 shards, 7 utterances, 2 speakers, 0.00 h" in capsys.readouterr().out
    assert main(["data", "index", str(out), "--nj", "2"]) == 0
    assert open_index(out / "index.safetensors").info["settings"]["mel_bins"] == 80


def test_a_writer_that_is_killed_leaves_no_process(corpus, tmp_path):
    """Its pipe is closed when the process that works for it has ended."""
    program = (
        "import sys, time\n"
        "from asr.corpus.jobs import in_processes\n"
        "def work(): print('begun', flush=True), time.sleep(60)\n"
        "list(in_processes(work, [()], 1))\n"
    )
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with started:
        assert started.stdout.readline() == b"begun\n"
        started.kill()
        assert started.stdout.read() == b""


def test_a_killed_process_is_an_error():
    with pytest.raises(InputError, match="a process was killed"):
        list(jobs.in_processes(os._exit, [(9,)], 1))
