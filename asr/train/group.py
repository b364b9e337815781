"""Processes that train together, started by torchrun: gloo on processors, NCCL on GPUs.

Every process computes its micro-batches of a batch and adds up its own gradient; then one exchange
sums the gradients of all. DistributedDataParallel would exchange its first bucket of 25 MB when
most of the gradient is there, which is the whole model, and it would forbid empty micro-batches,
halves after a lack of memory, and parameters without a gradient.
"""

import hashlib
import io
import json
import os
import secrets
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from asr.errors import EXIT_USAGE, InputError, first_line
from asr.files import check_folder
from asr.model.machine import pick_device
from asr.terminal import print_error
from asr.train.launch import StartError, number_of, processes, tell_torchrun, told_once
from asr.train.monitor import INTERRUPTED, Monitor, rank_log
from asr.train.rank import Rank

P = ParamSpec("P")
T = TypeVar("T")


class LostError(InputError):
    """Another process has ended or hangs.

    Args:
        message: which one, and the end of its log.
        ranks: ranks of the processes that failed.
    """

    def __init__(self, message: str, ranks: Sequence[int]) -> None:
        super().__init__(message)
        self.ranks = ranks


class Group(Rank):
    """One of several processes.

    Args:
        device: device of this process.
        timeout_s: longest time to wait for the others.
        monitor: finds out which of the others has failed.
    """

    def __init__(self, device: torch.device, timeout_s: float, monitor: Monitor) -> None:
        super().__init__(device)
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        self.timeout_s, self.monitor = timeout_s, monitor
        self.store: Store | None = None  # kept, since rank 0's serves the others
        self._wait_s = self._reduce_s = 0.0

    def _exchange(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of torch.distributed; raise LostError if another process fails."""
        started = time.monotonic()
        self.monitor.entry.exchanges += 1
        try:
            found = function(*args, **kwargs)
            self._wait_s += time.monotonic() - started
            return found
        except RuntimeError as error:
            late = time.monotonic() - started >= 0.9 * self.timeout_s
            raise LostError(*self.monitor.explain(self.timeout_s if late else None)) from error

    def total(self, *values: float) -> tuple[float, ...]:
        """Return the sums over all processes."""
        sums = torch.tensor(values, dtype=torch.float64)
        self._exchange(dist.all_reduce, sums)
        return tuple(sums.tolist())

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradients by their sums over all processes."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.total(0.0)  # wait for the slowest, so that GPUs only exchange
        waited_s, started = self._wait_s, time.monotonic()
        given = torch.tensor([float(p.grad is not None) for p in parameters])
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(part.flatten() for part in parts), given.to(self.device)])
        self._exchange(dist.all_reduce, flat)
        *sums, given = torch.split(flat, [*(p.numel() for p in parameters), len(parameters)])
        for parameter, part, used in zip(parameters, sums, given.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if used else None
        self._reduce_s += time.monotonic() - started
        self._wait_s = waited_s

    def times(self) -> dict[str, float]:
        """Return the seconds of waiting for the others and of summing gradients, and reset them."""
        found = {"ranks_wait_s": self._wait_s, "reduce_s": self._reduce_s}
        self._wait_s = self._reduce_s = 0.0
        return found

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes: what JSON can hold."""
        text = json.dumps(value).encode()
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        self._exchange(dist.all_gather, sizes, torch.tensor([len(text)]))
        longest = max(int(size) for size in sizes)
        found = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.count)]
        padded = torch.frombuffer(bytearray(text.ljust(longest)), dtype=torch.uint8)
        self._exchange(dist.all_gather, found, padded)
        return [json.loads(part.numpy().tobytes()) for part in found]

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0: tensors and plain values."""
        buffer = io.BytesIO()
        if self.index == 0:
            torch.save(value, buffer)
        found = self._broadcast(buffer.getvalue())
        return torch.load(io.BytesIO(found), map_location="cpu", weights_only=True)

    def _broadcast(self, data: bytes) -> bytes:
        size = torch.tensor([len(data)])
        self._exchange(dist.broadcast, size, 0)
        mine = bytearray(data if self.index == 0 else int(size))
        buffer = torch.frombuffer(mine, dtype=torch.uint8)
        self._exchange(dist.broadcast, buffer, 0)
        return buffer.numpy().tobytes()

    def report(self, activity: str) -> None:
        """Note what this process does, for the others' messages if it fails."""
        self.monitor.entry.activity = activity

    def leave(self, error: BaseException) -> BaseException:
        """Tell the others of an error that ends this process; return the error to show.

        torchrun stops all processes when one has failed: that error is the one to show.
        """
        entry = self.monitor.entry
        with suppress(KeyboardInterrupt):  # TERM of torchrun must not replace the error
            entry.ended, entry.follows = first_line(error), isinstance(error, LostError)
            if type(error) is KeyboardInterrupt:
                entry.ended = INTERRUPTED
                error = LostError(*found) if (found := self.monitor.ended()) else error
            dist.destroy_process_group()  # so that the others notice
            self.monitor.close()
        return error


def _connect(timeout_s: float, *, first: bool) -> Store:
    """Return a connection to the store of torchrun, or to that of the ``first`` process."""
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    limit = timedelta(seconds=timeout_s)
    server = first and not served
    return TCPStore(address, port, is_master=server, timeout=limit, wait_for_workers=False)


def meet(store: Store, index: int, count: int, timeout_s: float) -> str:
    """Wait for all processes; return a name of this start that they have in common.

    After a restart the store may still hold what the processes before have written. So each process
    writes a new number, rank 0 lists the numbers, and a list counts when all have confirmed it.

    Raises:
        InputError: processes are missing.
    """
    own, deadline = secrets.token_hex(8), time.monotonic() + timeout_s
    store.set(f"number/{index}", own)

    def read(key: str) -> str:
        return store.get(key).decode() if store.check([key]) else ""

    missing = [*range(count)]
    while time.monotonic() < deadline:
        if index == 0:
            store.set("list", " ".join(read(f"number/{n}") or "-" for n in range(count)))
        if own in (found := read("list")).split():
            store.set(f"{found}/{index}", "here")
            missing = [n for n in range(count) if not read(f"{found}/{n}")]
            if not missing:
                return hashlib.sha256(found.encode()).hexdigest()[:16]
        time.sleep(0.05)
    raise InputError(
        f"rank {', '.join(map(str, missing))} of the {count} processes of this training did not "
        f"come within {timeout_s:g} s (distributed.timeout_s); start all of them with torchrun, "
        "with the same --rdzv-endpoint, on machines that reach each other"
    )


def _device(name: str) -> torch.device:
    """Return the device of this process: a GPU for each process of a machine."""
    device = pick_device(name)
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise InputError(f"device {name}: each of several processes takes its own; use cuda")
    number, found = number_of("LOCAL_RANK", 0), torch.cuda.device_count()
    if number >= found:
        raise InputError(
            f"{found} GPUs and {processes()[1]} processes on this machine; start as many "
            "processes as GPUs (torchrun --nproc-per-node), or use --device cpu"
        )
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


def _join(device: str, timeout_s: float, folder: Path) -> Group:
    own, index, count = _device(device), number_of("RANK", 0), processes()[0]
    try:
        store = _connect(timeout_s, first=index == 0)
        start = meet(store, index, count, timeout_s)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo",
            timeout=timedelta(seconds=timeout_s),
            store=PrefixStore(f"group/{start}", store),
            rank=index,
            world_size=count,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the {count} processes of this training cannot connect: {first_line(error)}; start "
            "all of them with torchrun, with the same --rdzv-endpoint"
        ) from error
    entries = PrefixStore(f"monitor/{start}", _connect(timeout_s, first=False))
    group = Group(own, timeout_s, Monitor(entries, index, count, folder))
    group.store = store
    return group


@contextmanager
def joined(device: str, timeout_s: float, folder: Path) -> Iterator[Rank]:
    """Join the processes that torchrun has started; without it, train alone.

    Raises:
        InputError: some processes do not come.
    """
    if processes()[0] == 1:
        yield Rank(pick_device(device))
        return
    with told_once():
        group = _join(device, timeout_s, folder)
    group.monitor.start()
    try:
        yield group
    except BaseException as error:
        ended = group.leave(error)
        tell_torchrun(str(ended) if isinstance(ended, InputError) else traceback.format_exc())
        raise ended from error.__cause__
    else:
        group.monitor.entry.ended, group.monitor.entry.follows = "the end of the training", True
        group.monitor.close()
        dist.destroy_process_group()


@contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """Let rank 0 alone speak: the messages of another process go to its own log.

    An error is also shown where rank 0 cannot: before the processes have joined, or if rank 0 is
    the process that was lost. The others exit with the code of the error, which torchrun shows.
    """
    index = number_of("RANK", 0) if processes()[0] > 1 else 0
    path = rank_log(folder, index)
    with told_once():
        check_folder(folder)
    if index == 0:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", buffering=1) as log, redirect_stderr(log):
        try:
            yield
        except (InputError, KeyboardInterrupt) as error:
            print_error(error)
            lost = isinstance(error, LostError) and 0 in error.ranks and index == 1
            if lost or isinstance(error, StartError):
                raise
            raise SystemExit(EXIT_USAGE if isinstance(error, InputError) else 130) from error
