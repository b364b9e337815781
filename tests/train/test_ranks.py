"""Several processes, accumulation and halves compute the gradient of one process and batch."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch.distributed import HashStore

from asr import cli
from asr.config import TrainConfig
from asr.config.read import from_dict, to_dict
from asr.errors import InputError
from asr.model.batch import Count
from asr.train import group, loop
from asr.train.group import meet
from asr.train.loop import Training
from asr.train.plan import cut_batch
from asr.train.step import weights_at

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


def plain(config: TrainConfig, **changes) -> TrainConfig:
    """Return the settings without random numbers that depend on the micro-batches."""
    values = to_dict(config)
    values["model"]["encoder"]["dropout"] = values["model"]["decoder"]["dropout"] = 0.0
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (values[section] if section else values)[key] = value
    return from_dict(TrainConfig, values)


def start(config, corpus, out, rank=None):
    paths = (str(corpus / name) for name in ("train", "dev", "tokens.txt"))
    return Training(config, *paths, out, rank=rank)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_micro_batches_partition_a_batch(count):
    durations = [1.0, 1.2, 5.0, 1.1, 1.3]
    keys = [(0, index) for index in range(5)]
    micro_batches = cut_batch(keys, durations, count)
    assert (
        len(micro_batches) == count
        and sorted(key for part in micro_batches for key in part) == keys
    )
    sizes = [len(part) * max((durations[i] for _, i in part), default=0) for part in micro_batches]
    assert max(sizes) == {1: 25.0, 2: pytest.approx(5.2)}.get(count, 5.0)


def local(training, micro_batches):
    """Return the losses and gradients of micro-batches."""
    count = Count(*map(sum, zip(*(batch.count for batch in micro_batches), strict=True)))
    weights = weights_at(training.config.loss, 0)
    losses = training.step.local_gradient(micro_batches, count, weights, 5)
    gradients = [p.grad.clone() for p in training.model.parameters()]
    training.optimizer.zero_grad()
    return [float(loss) for loss in losses], gradients


def assert_same_step(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    for ours, theirs in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_an_accumulated_batch_has_the_gradient_of_the_whole(tone_corpus, tiny_training, tmp_path):
    """Three micro-batches and an empty one; each utterance has two copies."""
    whole = start(plain(tiny_training), tone_corpus, tmp_path / "las")
    keys = [(0, index) for index in range(6)]
    parts = cut_batch(keys, whole.data.train.durations_s, 3)
    read = whole.data.train.batch
    assert_same_step(local(whole, [read(keys)]), local(whole, [*map(read, parts), read([])]))


def lack_memory(training, monkeypatch, most):
    """Let memory run out for batches of more than some rows, after a part of the backward pass."""
    forward = training.model.forward

    def fail(batch, *args):
        loss = forward(batch, *args)
        if len(batch.ids) > most:
            loss.attention.backward(retain_graph=True)
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss

    monkeypatch.setattr(training.model, "forward", fail)


def test_a_batch_without_memory_is_halved(tone_corpus, tiny_training, tmp_path, monkeypatch):
    config = plain(tiny_training, batch__halve=True)
    training = start(config, tone_corpus, tmp_path / "las")
    said = []
    training.step.say = said.append
    micro_batches = [
        training.data.train.batch([(0, i) for i in keys]) for keys in ((0, 1), range(2, 7))
    ]
    expected = local(training, micro_batches)
    lack_memory(training, monkeypatch, 4)
    assert_same_step(local(training, micro_batches), expected)
    assert len(said) == 2 and "5 utterances" in said[0] and "3 utterances" in said[1]


def test_a_batch_without_memory_is_named(tone_corpus, tiny_training, tmp_path, monkeypatch):
    training = start(tiny_training, tone_corpus, tmp_path / "las")
    lack_memory(training, monkeypatch, 2)
    with pytest.raises(InputError) as error:
        training.run()
    assert "the largest batch: " in str(error.value) and "batch.halve" in str(error.value)
    assert "s1-02 (81 frames, 3 characters), s1-03 (81 frames, 3" in str(error.value)


def test_an_utterance_without_memory_is_named(tone_corpus, tiny_training, tmp_path, monkeypatch):
    training = start(plain(tiny_training, batch__halve=True), tone_corpus, tmp_path / "las")
    lack_memory(training, monkeypatch, 1)
    with pytest.raises(InputError, match="the largest batch: 1 utterance, "):
        training.run()
    with pytest.raises(RuntimeError, match="illegal memory access"):
        monkeypatch.setattr(training.model, "forward", illegal)
        training.run()


def illegal(*_):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def losses(out):
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return [e["loss"] for e in lines if e["kind"] == "step"]


def test_accumulation_equals_the_larger_batch(tone_corpus, tiny_training, tmp_path):
    config = plain(tiny_training, epochs=1, batch__workers=1)
    start(config, tone_corpus, tmp_path / "whole").run()
    config = replace(config, batch=replace(config.batch, accumulate=3))
    start(config, tone_corpus, tmp_path / "parts").run()
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def set_rank(rank: int, count: int, port: int) -> None:
    """Set the variables that torchrun sets."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in (numbers | address).items()})


def run_as(rank: int, count: int, port: int, argv: list[str], prepare: Callable[[], None]) -> None:
    """Run asr as one of several processes, as torchrun would; this ends the process."""
    set_rank(rank, count, port)
    out = Path(argv[argv.index("--out") + 1])
    sys.stdout = sys.stderr = (out.parent / f"{out.name}.{rank}").open("w", buffering=1)
    prepare()
    sys.exit(cli.main(argv))


class Processes:
    """Several processes of one training."""

    def __init__(self, corpus: Path, out: Path, config: TrainConfig) -> None:
        self.out, self.config = out, out.with_suffix(".yaml")
        self.config.write_text(yaml.safe_dump(to_dict(config)))
        self.argv = ["train", "--config", str(self.config), "--out", str(out)]
        for option, name in (("train", "train"), ("dev", "dev"), ("tokens", "tokens.txt")):
            self.argv += [f"--{option}", str(corpus / name)]

    def run(self, count: int, prepare: Callable[[], None] = lambda: None) -> list[int | None]:
        """Run to the end, and return the exit codes; those that hang are killed."""
        context, port = multiprocessing.get_context("fork"), free_port()
        started = [
            context.Process(target=run_as, args=(rank, count, port, self.argv, prepare))
            for rank in range(count)
        ]
        for process in started:
            process.start()
        started[0].join(120)
        for process in started[1:]:
            process.join(5)
            process.kill()
            process.join()
        return [process.exitcode for process in started]

    def said(self, rank: int) -> str:
        """Return what a process has printed."""
        return (self.out.parent / f"{self.out.name}.{rank}").read_text()

    def log(self, rank: int) -> str:
        return (self.out / "log" / f"rank{rank}.log").read_text()


def epochs(out):
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    names = ("dev_wer", "dev_attention", "dev_ctc", "train_attention", "alignment")
    return [[e[name] for name in names] for e in lines if e["kind"] == "epoch"]


@pytest.fixture
def alone(tone_corpus, tiny_training, tmp_path):
    """The folder of a training by one process."""
    start(plain(tiny_training), tone_corpus, tmp_path / "alone").run()
    return tmp_path / "alone"


@pytest.mark.parametrize(("count", "accumulate", "workers"), [(2, 1, 1), (2, 2, 0), (4, 1, 0)])
def test_several_processes_train_as_one(
    alone, tone_corpus, tiny_training, tmp_path, count, accumulate, workers
):
    """Of 4 micro-batches some are empty; of 4 processes some have no share of the dev set."""
    config = plain(tiny_training, batch__accumulate=accumulate, batch__workers=workers)
    training = Processes(tone_corpus, tmp_path / "several", config)
    assert training.run(count) == [0] * count
    assert losses(training.out) == pytest.approx(losses(alone), rel=1e-5)
    for ours, theirs in zip(epochs(training.out), epochs(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert "final.safetensors" in training.said(0) and not training.said(1)
    assert f"rank 1 of {count}" in training.log(1)
    assert len(list((training.out / "tensorboard").iterdir())) == 1


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return the gradients of a model, and reset them."""
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


def compare_with_torch(index: int, port: int, config: TrainConfig, corpus: Path, out: Path) -> None:
    """Compute the gradient of two micro-batches as DistributedDataParallel does, and as we do."""
    set_rank(index, 2, port)
    with group.joined("cpu", 60.0, out) as rank:
        training = start(config, corpus, out, rank)
        keys = cut_batch([(0, i) for i in range(7)], training.data.train.durations_s, 2)
        micro_batches = [training.data.train.batch(share) for share in keys]
        count = Count(*map(sum, zip(*(share.count for share in micro_batches), strict=True)))
        weights, model = weights_at(config.loss, 0), training.model.train()
        training.step.local_gradient([micro_batches[index]], count, weights, 5)
        alone = gradients(model)
        training.step.local_gradient([micro_batches[index]], count, weights, 5)
        rank.sum_gradients(list(model.parameters()))
        ours = gradients(model)
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        wrapped(micro_batches[index], weights, count).total.backward()
        means = gradients(model)
        for sums, mean, own in zip(ours, means, alone, strict=True):
            torch.testing.assert_close(sums, 2 * mean, rtol=1e-6, atol=1e-6)
            assert not torch.equal(sums, own)


def test_the_sum_of_gradients_is_that_of_distributed_data_parallel(
    tone_corpus, tiny_training, tmp_path
):
    common = free_port(), plain(tiny_training), tone_corpus, tmp_path / "las"
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=compare_with_torch, args=(i, *common)) for i in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in started] == [0, 0]


def in_step_3_of_rank_1(action: Callable[[], None]) -> Callable[[], None]:
    """Return what lets a process do something in its third step, if it is rank 1."""

    def prepare() -> None:
        step = Training._step

        def act_then_step(self, *args):
            if self.progress.step == 2 and self.rank.index == 1:
                action()
            step(self, *args)

        Training._step = act_then_step  # type: ignore[method-assign]

    return prepare


def test_a_killed_process_is_named_and_another_number_goes_on(
    alone, tone_corpus, tiny_training, tmp_path
):
    config = plain(tiny_training, checkpoint_minutes=9.0)
    training = Processes(tone_corpus, tmp_path / "killed", config)
    killed = training.run(2, in_step_3_of_rank_1(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert killed == [2, -signal.SIGKILL]
    said = training.said(0)
    assert "asr train: rank 1 (" in said and "does not answer: it was killed" in said
    assert "rank 1 of 2" in said and "saved after step 2" in said  # the end of its log
    resumed = start(config, tone_corpus, training.out)
    assert resumed.progress.step == 2
    resumed.run()
    assert losses(training.out) == pytest.approx(losses(alone), rel=1e-4)


def fail() -> None:
    raise InputError("the disk is gone")


def test_an_error_of_another_process_is_shown(tone_corpus, tiny_training, tmp_path):
    training = Processes(tone_corpus, tmp_path / "las", tiny_training)
    assert training.run(2, in_step_3_of_rank_1(fail)) == [2, 2]
    assert "has ended: the disk is gone" in training.said(0) and not training.said(1)
    assert "the disk is gone" in training.log(1)


def test_a_mistake_of_another_process_is_shown_with_its_traceback(
    tone_corpus, tiny_training, tmp_path
):
    training = Processes(tone_corpus, tmp_path / "las", tiny_training)
    assert training.run(2, in_step_3_of_rank_1(lambda: 1 // 0)) == [2, 70]
    assert "Traceback" in training.said(1) and "ZeroDivisionError" in training.said(1)


def test_an_error_of_rank_0_is_in_the_logs_of_the_others(tone_corpus, tiny_training, tmp_path):
    training = Processes(tone_corpus, tmp_path / "las", tiny_training)
    (tmp_path / "las" / "checkpoints").mkdir(parents=True)
    (tmp_path / "las" / "checkpoints" / "last.pt").write_text("not a state")
    assert training.run(2) == [2, 2]
    assert training.said(0).count("last.pt: not a training state, or damaged") == 1
    assert "rank 0 (" in training.log(1) and "last.pt: not a training state" in training.log(1)


def test_a_hanging_process_is_named(tone_corpus, tiny_training, tmp_path):
    """Its log shows where it hangs."""
    config = plain(tiny_training, distributed__timeout_s=4.0)
    training = Processes(tone_corpus, tmp_path / "las", config)
    assert training.run(2, in_step_3_of_rank_1(lambda: time.sleep(1000)))[0] == 2
    said = training.said(0)
    assert "asr train: rank 1 (" in said and "hangs: the others have waited 4 s" in said
    assert "time.sleep(1000)" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_process_saves_and_stops_all(tone_corpus, tiny_training, tmp_path, number):
    config = plain(tiny_training, checkpoint_minutes=9.0)
    training = Processes(tone_corpus, tmp_path / "las", config)
    stopped = training.run(2, in_step_3_of_rank_1(lambda: os.kill(os.getpid(), number)))
    assert stopped == [130, 130]
    assert "saved after step 3" in training.said(0) and not training.said(1)
    assert start(config, tone_corpus, training.out).progress.step == 3


def test_processes_with_other_settings_are_refused(tone_corpus, tiny_training, tmp_path):
    training = Processes(tone_corpus, tmp_path / "las", tiny_training)

    def other_seed() -> None:
        if os.environ["RANK"] == "1":
            text = training.config.read_text().replace("seed: 1", "seed: 2")
            training.argv[2] = str(training.config.with_name("other.yaml"))
            Path(training.argv[2]).write_text(text)

    assert training.run(2, other_seed) == [2, 2]
    assert "rank 1 has other settings, initial weights than rank 0" in training.said(0)


def under_torchrun(folder: Path, action: Callable[[int], None]) -> Callable[[], None]:
    """Return what gives a process the files of torchrun, and then does something with its rank."""

    def prepare() -> None:
        rank = os.environ["RANK"]
        (folder / rank).mkdir(parents=True)
        os.environ["TORCHELASTIC_ERROR_FILE"] = str(folder / rank / "error.json")
        action(int(rank))

    return prepare


def stopped_with_the_other(rank: int) -> None:
    """Let TERM arrive when the other process has ended, as torchrun sends it."""

    def wait(*_):
        while not Path(os.environ["TORCHELASTIC_ERROR_FILE"]).parents[1].joinpath("first").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(9)

    if rank == 0:
        group.meet = wait


def one_gpu(rank: int) -> None:
    """Leave no GPU for rank 1."""
    group.pick_device = lambda name: torch.device("cuda")
    torch.cuda.device_count = lambda: 1
    torch.cuda.set_device = lambda device: None
    stopped_with_the_other(rank)


def told(folder: Path) -> list[str]:
    return [json.loads(path.read_text())["message"] for path in folder.glob("*/error.json")]


def test_a_process_without_a_gpu_says_so_once(tone_corpus, tiny_training, tmp_path):
    training = Processes(tone_corpus, tmp_path / "las", tiny_training)
    assert training.run(2, under_torchrun(tmp_path / "start", one_gpu)) == [130, 2]
    assert "1 GPUs and 2 processes on this machine" in training.said(1)
    assert not training.said(0) and "1 GPUs" in training.log(1)
    assert sorted(told(tmp_path / "start"))[0].startswith("1 GPUs and 2 processes")


@pytest.mark.parametrize("more", [["--epochs", "0"], ["--device", "cuda:9"], ["--out", "FILE"]])
def test_an_error_of_all_processes_is_shown_once(tone_corpus, tiny_training, tmp_path, more):
    training = Processes(tone_corpus, tmp_path / "las", tiny_training)
    (tmp_path / "file").write_text("")
    training.argv += [str(tmp_path / "file") if each == "FILE" else each for each in more]
    assert training.run(2, under_torchrun(tmp_path / "start", lambda rank: None)) == [2, 2]
    said = training.said(0) + training.said(1)
    assert said.count("asr train: ") == 1 and len(told(tmp_path / "start")) == 2


def test_a_directory_that_one_process_cannot_read(tone_corpus, tiny_training, tmp_path):
    """Rank 0 shows the error, although it is stopped while it still reads."""
    training = Processes(tone_corpus, tmp_path / "las", tiny_training)

    def missing(rank: int) -> None:
        if rank == 1:
            training.argv[training.argv.index("--train") + 1] = str(tmp_path / "none")
            return
        read = loop.TrainData

        def stopped(*args):
            while not (tmp_path / "start/1/error.json").exists():  # rank 1 has failed
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGTERM)
            return read(*args)

        loop.TrainData = stopped

    assert training.run(2, under_torchrun(tmp_path / "start", missing)) == [2, 2]
    assert training.said(0).count("asr train: rank 1 (") == 1 and not training.said(1)
    assert f"{tmp_path / 'none'}: no such folder" in training.said(0)


def test_a_missing_process_is_named_once(tone_corpus, tiny_training, tmp_path):
    config = plain(tiny_training, distributed__timeout_s=10.0)
    training = Processes(tone_corpus, tmp_path / "las", config)

    def missing(rank: int) -> None:
        os.environ["WORLD_SIZE"] = "3"

    assert training.run(2, under_torchrun(tmp_path / "start", missing)) == [2, 2]
    said = training.said(0) + training.said(1)
    assert said.count("asr train: ") == 1 and "2 of the 3 processes of this" in said


def test_processes_meet_although_the_store_has_old_numbers():
    """As after a restart by torchrun."""
    store = HashStore()
    for key, value in {"number/0": "a", "number/1": "b", "list": "a b"}.items():
        store.set(key, value)
    for rank in range(2):
        store.set(f"a b/{rank}", "here")
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(meet, store, rank, 2, 9.0) for rank in (1, 0)]
        names = {each.result() for each in found}
    assert len(names) == 1
    with pytest.raises(InputError, match=r"rank 1, 2 of the 3 processes .* within 0\.2 s"):
        meet(HashStore(), 0, 3, 0.2)


def test_torchrun_on_one_machine(tone_corpus, tiny_training, tmp_path):
    """As `run.sh --ngpu 2 --device cpu` of a recipe starts a training."""
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(to_dict(replace(tiny_training, epochs=1))))
    paths = {name: tone_corpus / name for name in ("train", "dev")}
    paths |= {"tokens": tone_corpus / "tokens.txt", "out": tmp_path / "las"}
    options = [f"--{name}={path}" for name, path in paths.items()]
    script = Path(__file__).parents[2] / "egs/utils/torchrun.sh"
    done = subprocess.run(
        ["bash", script, "2", "1", "asr", "train", "--config", tmp_path / "conf.yaml", *options],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "las/final.safetensors").is_file()
    assert (tmp_path / "las/log/rank1.log").is_file()
