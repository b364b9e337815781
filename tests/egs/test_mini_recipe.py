"""The bundled recipe from end to end: a model that learns nothing has to fail here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EPOCHS = 8  # of 18; the learning rate falls within them
HIGHEST_WER = 30.0  # in percent; a model that learns nothing stays near 100


def copy_of_recipes(folder):
    """The recipes, without what was made in them and without the set-up, which is there."""
    made = shutil.ignore_patterns("exp", "data", "downloads", "__pycache__")
    shutil.copytree(REPOSITORY / "egs", folder / "egs", symlinks=True, ignore=made)
    (folder / "egs/utils/setup.sh").write_text("#!/usr/bin/env bash\n")
    (folder / "data").symlink_to(REPOSITORY / "data")
    return folder / "egs/librispeech"


def shown_in_the_readme():
    """Patterns of the lines that the README shows of this recipe, with any numbers and words."""
    blocks = re.split(r"^```.*\n", (REPOSITORY / "README.md").read_text(), flags=re.M)[1::2]
    for line in next(b for b in blocks if b.startswith("setup: ")).splitlines():
        line = re.sub(r"(said|heard): .*", r"\1: ", line)
        if not line.startswith("setup: "):
            line = re.sub(r"[][|()+*?]", r"\\\g<0>", line)
            yield re.sub(r"\d[\d.]*", r"[\\d.]+", line).replace("…", ".*")


def test_the_mini_recipe_learns(tmp_path):
    recipe = copy_of_recipes(tmp_path)
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", recipe / "run.sh", "--train-options", f"--epochs {EPOCHS}", "--nj", "2"]
    environment = {**os.environ, "PATH": programs}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    exp = recipe / "exp/las"
    assert {"config.yaml", "final.safetensors", "RESULTS"} <= {path.name for path in exp.iterdir()}
    for part in ("dev_mini", "test_mini"):
        found = re.search(rf"%WER (\S+) .*decode_{part}_beam/wer", (exp / "RESULTS").read_text())
        assert found and float(found[1]) <= HIGHEST_WER, result.stdout[-3000:]
    for line in shown_in_the_readme():
        assert re.search(line, result.stdout + result.stderr), line
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    stages = [line for line in again.stdout.splitlines() if line.startswith("stage ")]
    assert stages and all("done already" in line or "none in" in line for line in stages), stages
