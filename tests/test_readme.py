"""What the READMEs tell people to type is run, on a few utterances of data/mini."""

import os
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest
import soundfile

import asr
from asr.store.model_file import read_model

REPOSITORY = Path(__file__).resolve().parents[1]
READMES = [
    path
    for path in REPOSITORY.glob("**/*.md")
    if not any(
        part.startswith(".") or part in ("exp", "data", "models", "downloads", "build", "dist")
        for part in path.relative_to(REPOSITORY).parts[:-1]
    )
]
UTTERANCES = 48
SMALL = (  # a model of a minute, whatever the settings file says
    "--epochs 1 --passes 1 --average 1 --model.encoder.units 16 --model.decoder.units 16 "
    "--model.attention.units 16 --batch.workers 0 --loss.guide 0"
)


def blocks(readme, language):
    """The blocks of code of a README, in their order."""
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def commands(readme):
    """The commands that a README shows, each on one line, without comments."""
    joined = "".join(blocks(readme, "bash")).replace("\\\n", " ")
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files that the READMEs' examples take for given."""
    folder = tmp_path_factory.mktemp("desk")
    corpus = REPOSITORY / "data/mini/train-mini"
    texts = {}
    for path in sorted(corpus.glob("*/*/*.trans.txt")):
        for line in path.read_text().splitlines()[:2]:
            name, text = line.split(maxsplit=1)
            texts[path.parent / f"{name}.opus"] = text
    chosen = dict(list(texts.items())[:UTTERANCES])
    rows = [f'{path},"{text}",{path.name.split("-")[0]}' for path, text in chosen.items()]
    (folder / "recordings.csv").write_text("\n".join(["audio,text,speaker", *rows]) + "\n")
    samples, rate = soundfile.read(next(iter(chosen)))
    (folder / "recordings").mkdir()
    for name in ("command.wav", "call.wav", "talk.wav", "talk.mp3", "new.wav", "recordings/a.wav"):
        soundfile.write(folder / name, samples, rate)
    (folder / "ref.stm").write_text("talk 1 speaker 0.00 2.00 TURN ON THE LIGHT\n")
    (folder / "hyp.ctm").write_text("talk 1 0.10 0.30 TURN\ntalk 1 0.50 0.30 ON\n")
    model = folder / "egs/librispeech/exp/las/final.safetensors"
    model.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "asr/models/an4/model.safetensors", model)
    for name in ("egs/librispeech/local", "egs/librispeech/conf", "data/mini"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "egs/an4").mkdir()
    (folder / "egs/an4/conf").symlink_to(REPOSITORY / "egs/an4/conf")
    return folder


def run(command, folder):
    """Run a command as the README has it, with a smaller training."""
    if command.startswith("asr train "):
        command += f" {SMALL}"  # behind --config, which would win otherwise
    if command.startswith("asr lm train "):
        command += " --epochs 1 --units 16"
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_the_commands_of_the_readme_work(desk):
    for command in commands("README.md"):
        if command.startswith("asr "):
            if "--against" in command:  # another system's folder
                (desk / "other").mkdir()
                (desk / "other/decode_dev").symlink_to(desk / "exp/mine/decode_dev")
            run(command, desk)
    assert (desk / "exp/mine/final.safetensors").is_file()
    assert "-->" in (desk / "out/a.srt").read_text()
    assert "WER" in run("asr score data/dev exp/mine/decode_dev", desk)


def test_the_commands_of_the_model_card_work(desk):
    for command in commands("asr/models/an4/MODEL_CARD.md"):
        assert run(command, desk).strip()


def test_the_commands_of_the_readme_of_the_code_work(desk):
    for command in commands("asr/README.md"):
        run(command, desk)
    assert read_model(desk / "exp/dot")[0].config.model.attention.kind == "dot"


def test_the_commands_of_the_recipes_readme_work(desk, monkeypatch):
    if not (desk / "exp/mine/final.safetensors").exists():
        pytest.skip("needs the model that the README's commands train in the test before")
    for command in commands("egs/README.md"):
        run(command.replace("--order 3", "--order 2"), desk)
    assert {"tuned.yaml", "tuned.json", "tuned.png"} <= {p.name for p in (desk / "exp").iterdir()}
    for block in blocks("egs/README.md", "python"):
        monkeypatch.chdir(desk)
        exec(block, {"asr": asr})
    assert (desk / "talk.html").is_file()


def test_the_python_of_the_readme_works(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    with wave.open("talk.wav") as file:
        assert file.getframerate() == 16000
    blocks_of_audio = soundfile.blocks("talk.wav", blocksize=1600)
    for block in blocks("README.md", "python"):
        exec(block, {"blocks": blocks_of_audio})
    assert float(capsys.readouterr().out.splitlines()[-1]) >= 0


@pytest.mark.parametrize("readme", [str(p.relative_to(REPOSITORY)) for p in READMES])
def test_links_pictures_and_scripts_exist(readme):
    folder = (REPOSITORY / readme).parent
    for link in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / readme).read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (folder / link).exists(), f"{readme}: {link}"
    for command in commands(readme):
        program = command.split()[0]
        if "/" in program and not program.startswith("."):
            assert os.access(REPOSITORY / program, os.X_OK), f"{readme}: {program}"


def test_the_readme_is_short():
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 100
