"""The recipe of mini_translation from end to end, with one voice in each set and tiny models."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VOICES = {"train-mini": "1001", "dev-mini": "2001", "test-mini": "3001"}
TINY = "--epochs 1 --model.encoder.units 8 --model.decoder.units 8 --model.attention.units 8"


def copy_of_recipes(folder):
    """The recipes without the set-up, which is there, and a corpus of three voices."""
    made = shutil.ignore_patterns("exp", "data", "downloads", "__pycache__")
    shutil.copytree(REPOSITORY / "egs", folder / "egs", symlinks=True, ignore=made)
    (folder / "egs/utils/setup.sh").write_text("#!/usr/bin/env bash\n")
    for part, voice in VOICES.items():
        (folder / "mini" / part).mkdir(parents=True)
        (folder / "mini" / part / voice).symlink_to(REPOSITORY / "data/mini" / part / voice)
    return folder / "egs/mini_translation"


def run(recipe, *options):
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", recipe / "run.sh", "--corpus", recipe.parents[1] / "mini", "--nj", "1", *options],
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
    )


def test_two_kinds_begin_with_the_same_encoder(tmp_path):
    recipe = copy_of_recipes(tmp_path)
    options = ["--kinds", "dot gmm", "--train-options", TINY, "--encoder-options", TINY]
    result = run(recipe, *options)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    first = (recipe / "data/dev_mini/text").read_text().splitlines()[0]
    assert first == "2001-1-0000 OSCAR KE JULIA KUN RENDO SEKVE MEA KIAM STA"
    for kind in ("dot", "gmm"):
        exp = recipe / "exp" / kind
        assert f"kind: {kind}" in (exp / "config.yaml").read_text()
        assert "weights of exp/english:encoder" in (exp / "log/train.log").read_text()
        results = (exp / "RESULTS").read_text()
        for figure in ("WER", "SER", "BLEU", "chrF2", "exact"):
            for part in ("dev_mini", "test_mini"):
                pattern = rf"^%{figure} \d.*" + ("" if figure == "SER" else f"decode_{part}_beam")
                assert re.search(pattern, results, flags=re.M), (figure, results)
    again = run(recipe, *options)
    assert again.returncode == 0
    stages = re.findall(r"^stage .*", again.stdout, flags=re.M)
    assert stages and all("done already" in line for line in stages)
