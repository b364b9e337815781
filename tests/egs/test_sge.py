"""A recipe through Debian's Grid Engine on the loopback device: a failing job, a time limit."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from clusters import check_recipe, daemon, free_ports, make_recipe

ROOT, TOOLS = Path("/var/lib/gridengine"), Path("/usr/lib/gridengine")
SHARED = Path("/usr/share/gridengine")
PROGRAMS = ("qsub", "qstat", "qdel", "qconf", "sge_qmaster", "sge_execd")
BOOTSTRAP = """
admin_user none
default_domain none
ignore_fqdn true
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params {root}/spool/db
binary_path /usr/sbin
qmaster_spool_dir {root}/spool/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""


def missing() -> str:
    """Return why Grid Engine cannot run here, or an empty text."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if absent or not TOOLS.is_dir():
        packages = "gridengine-master gridengine-exec gridengine-client"
        return f"Grid Engine is not installed: {', '.join(absent)} missing (apt install {packages})"
    return "" if os.geteuid() == 0 else "sge_execd runs jobs as root only"


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def edited(text: str, **values: str) -> str:
    """Return a configuration of Grid Engine with other values."""
    for name, value in values.items():
        text = re.sub(rf"^{name}\s.*", f"{name} {value}", text, flags=re.M)
    return text


def make_cell(root: Path, environment: Mapping[str, str]) -> None:
    """Write the folders, files and the database of a cluster of this machine alone."""
    for name in ("util", "bin", "lib", "utilbin"):
        (root / name).symlink_to(ROOT / name)
    common = root / "default" / "common"
    for folder in (
        common,
        *(root / "spool" / name for name in ("db", "qmaster/job_scripts", "execd")),
    ):
        folder.mkdir(parents=True)
    (common / "bootstrap").write_text(BOOTSTRAP.format(root=root))
    (common / "act_qmaster").write_text("localhost\n")
    (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
    usual = (SHARED / "default-configuration").read_text()
    own = {"execd_spool_dir": f"{root}/spool/execd", "load_report_time": "00:00:02"}
    (root / "conf").write_text(edited(usual, **own, min_uid="0", min_gid="0"))
    resources = SHARED / "util/resources"
    commands = [
        ["spoolinit", "berkeleydb", "libspoolb", f"{root}/spool/db", "init"],
        ["spooldefaults", "configuration", f"{root}/conf"],
        ["spooldefaults", "complexes", f"{resources}/centry"],
        ["spooldefaults", "usersets", f"{resources}/usersets"],
        ["spooldefaults", "managers", "root"],
    ]
    for program, *arguments in commands:
        call([str(TOOLS / program), *arguments], environment)


def call(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def wait_for(command: list[str], pattern: str, environment: Mapping[str, str]) -> None:
    """Run a command until its output has a pattern."""
    for _ in range(150):
        shown = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True
        )
        if re.search(pattern, shown.stdout, flags=re.M):
            return
        time.sleep(0.3)
    raise RuntimeError(f"Grid Engine does not start: {command}: {shown.stdout}{shown.stderr}")


@contextmanager
def running(root: Path) -> Iterator[Mapping[str, str]]:
    """Start Grid Engine with its files in ``root``; yield the variables that its commands need."""
    ports = free_ports(2)
    environment = {"SGE_ROOT": str(root), "SGE_CELL": "default", "SGE_ND": "1"}
    environment |= {"SGE_QMASTER_PORT": str(ports[0]), "SGE_EXECD_PORT": str(ports[1])}
    make_cell(root, environment)

    def configure(option: str, name: str, text: str) -> None:
        (root / name).write_text(text)
        call(["qconf", option, str(root / name)], environment)

    with ExitStack() as stack:
        stack.enter_context(daemon(["/usr/sbin/sge_qmaster"], root, environment))
        wait_for(["qconf", "-sh"], "localhost", environment)
        call(["qconf", "-as", "localhost"], environment)
        shown = call(["qconf", "-ssconf"], environment)
        soon = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
        configure("-Msconf", "scheduler", edited(shown, **soon))
        call(["qconf", "-Ap", str(SHARED / "util/resources/pe/smp")], environment)
        queue = {"qname": "all.q", "hostlist": "localhost", "slots": "2", "pe_list": "smp"}
        usual = call(["qconf", "-sq"], environment)
        configure("-Aq", "queue", edited(usual, **queue, load_thresholds="NONE"))
        stack.enter_context(daemon(["/usr/sbin/sge_execd"], root, environment))
        wait_for(["qstat", "-f"], r"^all.q@localhost +BIP +0/0/2 +[\d.]+ +\S+ *$", environment)
        yield environment


@pytest.fixture
def queue(tmp_path_factory):
    with running(tmp_path_factory.mktemp("sge")) as variables:
        yield variables


def test_a_recipe_from_features_to_scores(queue, tmp_path):
    recipe = make_recipe(tmp_path, "utils/sge.sh")
    check_recipe(recipe, queue, "--time 0:2:0 --warn 90", "sge.sh")
