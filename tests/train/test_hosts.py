"""Three hosts, made of network namespaces on this machine: one is killed, one is cut off."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from asr.config.read import to_dict

PREFIX = f"asr{os.getpid() % 10000}"
HOSTS = range(3)
WAIT_S = 240.0


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def name(host: int) -> str:
    return f"{PREFIX}h{host}"


def address(host: int) -> str:
    return f"10.213.77.{host + 1}"


@pytest.fixture
def network() -> Iterator[None]:
    """A network of three hosts: namespaces with a cable each to a switch in a fourth."""
    switch = f"{PREFIX}sw"
    if not shutil.which("ip"):
        pytest.skip("network namespaces need ip (iproute2)")
    try:
        ip("netns", "add", switch)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made: {error.stderr.decode().strip()}")
    try:
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for host in HOSTS:
            ip("netns", "add", name(host))
            ip("-n", name(host), "link", "add", "eth0", "type", "veth", "peer", f"port{host}")
            ip("-n", name(host), "link", "set", f"port{host}", "netns", switch)
            ip("-n", switch, "link", "set", f"port{host}", "master", "bridge", "up")
            ip("-n", name(host), "address", "add", f"{address(host)}/24", "dev", "eth0")
            ip("-n", name(host), "link", "set", "eth0", "up")
            ip("-n", name(host), "link", "set", "lo", "up")
        yield
    finally:
        for each in [*map(name, HOSTS), switch]:
            subprocess.run(["ip", "netns", "del", each], capture_output=True)


def launch(host: int, argv: list[str], out: Path) -> subprocess.Popen[bytes]:
    """Start torchrun on a host, with its own copy of the options; its output goes to a file."""
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "eth0",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = ["ip", "netns", "exec", name(host), sys.executable, "-m", "torch.distributed.run"]
    command += ["--nnodes", "1:3", "--nproc-per-node", "1", "--max-restarts", "3"]
    command += ["--rdzv-backend", "c10d", "--rdzv-id", "hosts"]
    command += ["--rdzv-endpoint", f"{address(0)}:29400", "--local-addr", address(host)]
    command += ["--rdzv-conf", f"is_host={int(host == 0)},last_call_timeout=3,read_timeout=15"]
    with out.open("w") as file:
        return subprocess.Popen(
            [*command, "-m", "asr", *argv],
            env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def wait_for(state: Callable[[], object], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not state():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def kill_host(host: int) -> None:
    """Kill all processes of a host at once."""
    pids = subprocess.run(["ip", "netns", "pids", name(host)], capture_output=True, text=True)
    for pid in pids.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def steps(out: Path) -> list[tuple[int, float]]:
    log = out / "train.jsonl"
    lines = map(json.loads, log.read_text().splitlines()) if log.exists() else []
    return [(e["step"], e["loss"]) for e in lines if e["kind"] == "step"]


def test_hosts_that_die_and_a_network_that_fails(network, tone_corpus, tiny_training, tmp_path):
    values = to_dict(tiny_training)
    values |= {"epochs": 16, "distributed": {"timeout_s": 20.0}, "checkpoint_minutes": 0.0}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    out = tmp_path / "las"
    argv = ["train", "--config", str(tmp_path / "train.yaml"), "--out", str(out)]
    for option, file in (("train", "train"), ("dev", "dev"), ("tokens", "tokens.txt")):
        argv += [f"--{option}", str(tone_corpus / file)]
    said = [tmp_path / f"host{host}" for host in HOSTS]
    started = [launch(host, argv, said[host]) for host in HOSTS]
    text = said[0].read_text
    try:
        wait_for(lambda: "rank 0 of 3" in text() and len(steps(out)) > 8, "three hosts train")
        kill_host(2)
        wait_for(lambda: "asr train: rank 2 (" in text(), "the killed host is named")
        before = len(steps(out))
        wait_for(lambda: "rank 0 of 2" in text() and len(steps(out)) > before + 8, "two go on")
        ip("-n", name(1), "link", "set", "eth0", "down")
        wait_for(lambda: "asr train: rank 1 (" in text(), "the cut host is named")
        assert started[0].wait(WAIT_S) == 0
        cut_off = said[1].read_text
        wait_for(lambda: "its machine or the network failed" in cut_off(), "the cut host says so")
    finally:
        for host in HOSTS:
            kill_host(host)
        for process in started:
            process.wait()
    for number in (1, 2):
        assert any(
            "does not answer" in line for line in text().splitlines() if f"rank {number} (" in line
        )
    assert [number for number, _ in steps(out)] == [*range(1, len(steps(out)) + 1)]
    assert (out / "final.safetensors").is_file()
