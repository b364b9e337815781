"""Models by path and by name; the tests have bundled models of their own."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asr.commands.models import main
from asr.config import EncoderConfig, FeatureConfig, LMConfig, TrainConfig
from asr.errors import InputError
from asr.model.las import LAS
from asr.store import find
from asr.store.export import export_model
from asr.store.model_file import Header, copy_with_info, read_model, save_lm, save_model
from asr.text.tokenizer import CharTokenizer

LARGEST = 8_000_000  # bytes of a bundled model
FACTS = {"hears", "languages", "wer", "licence", "data"}


def write_model(path, config, storage="float32", **card):
    features = FeatureConfig(mel_bins=20, cmvn="none")
    tokenizer = CharTokenizer.from_texts(["AB C"])
    torch.manual_seed(0)
    weights = LAS(config, 20, len(tokenizer)).state_dict()
    whole = TrainConfig(features=features, model=config)
    info = {"card": card, "dev_wer": 0.125}
    return save_model(path, weights, Header(whole, tokenizer, None, info), storage)


@pytest.fixture
def shelf(tiny_config, tmp_path, monkeypatch):
    """Two bundled models: the default one, and ``abc`` without a card."""
    folder = tmp_path / "models"
    write_model(folder / "an4" / "model.safetensors", tiny_config, licence="MIT", hears="letters")
    (folder / "an4" / "MODEL_CARD.md").write_text("# The card\n")
    write_model(folder / "abc" / "model.safetensors", tiny_config)
    (folder / "not-a-model").mkdir()
    monkeypatch.setattr(find, "FOLDER", folder)
    return folder


@pytest.fixture
def empty_shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(find, "FOLDER", tmp_path / "nothing")


def test_names_stand_for_models(shelf):
    assert find.names() == ["an4", "abc"]  # the default first
    assert find.default_model() == shelf / "an4" / "model.safetensors"
    assert find.find_model("abc") == shelf / "abc" / "model.safetensors"
    assert read_model("an4")[0].tokenizer.symbols[3] == "A"


def test_a_path_takes_precedence_over_a_name(shelf, tiny_config, tmp_path, monkeypatch):
    mine = write_model(tmp_path / "abc" / "final.safetensors", tiny_config)
    monkeypatch.chdir(tmp_path)
    assert find.find_model("abc").samefile(mine)
    assert find.find_model(Path("abc/final.safetensors")).samefile(mine)


def test_a_recipes_folder_stands_for_its_only_training(tiny_config, tmp_path):
    first = write_model(tmp_path / "exp" / "las" / "final.safetensors", tiny_config)
    (tmp_path / "exp" / "lm").mkdir()
    assert find.find_model(tmp_path / "exp") == first
    write_model(tmp_path / "exp" / "other" / "final.safetensors", tiny_config)
    with pytest.raises(InputError, match=r"2 trainings, expected one; name one of .*las, .*other"):
        find.find_model(tmp_path / "exp")


def test_a_folder_of_that_name_without_a_model(shelf, tmp_path, monkeypatch):
    (tmp_path / "here" / "an4").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(
        InputError, match=r"no final\.safetensors .* bundled model of this name is "
    ):
        find.find_model("an4")


def test_unknown_names(shelf, tmp_path, monkeypatch):
    (tmp_path / "empty" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty" / "here")
    for name in ("nobody", "not-a-model", "..", "an4/../abc"):
        with pytest.raises(InputError, match=r"no such model; .*names an4, abc|no final"):
            find.find_model(name)


def test_an_empty_name_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "final.safetensors").touch()
    with pytest.raises(InputError, match="an empty name of a model"):
        find.find_model("")


def test_without_models(empty_shelf, capsys):
    with pytest.raises(InputError, match="does not include the default model"):
        find.default_model()
    with pytest.raises(InputError, match="nobody: no such model; expected a folder"):
        find.find_model("nobody")
    assert main([]) == 0
    assert "no model comes with this installation" in capsys.readouterr().err
    assert main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_list(shelf, capsys):
    assert main([]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines()[0] == "an4 (default)"
    assert "  hears       letters" in first
    assert "  WER         12.5 % (dev set of its training)" in first
    assert "  licence     MIT" in first
    assert "  characters  4:  ABC" in first
    assert "  confidence  no" in first
    assert second.splitlines()[0] == "abc"


def test_one_model(shelf, capsys):
    main(["an4"])
    assert capsys.readouterr().out == "# The card\n"
    main(["abc"])
    assert "parameters" in capsys.readouterr().out
    main(["an4", "--json"])
    value = json.loads(capsys.readouterr().out)
    assert value["card"]["hears"] == "letters" and value["storage"] == "float32"
    with pytest.raises(InputError, match="no such model"):
        main(["nobody"])


def test_parameters_do_not_depend_on_storage(tiny_config, tmp_path):
    config = replace(tiny_config, encoder=EncoderConfig(units=32, pyramid=(2, 2)))
    path = write_model(tmp_path / "x.safetensors", config)
    parameters = sum(value.size for value in read_model(path)[1].values())
    small = export_model(path, tmp_path / "small.safetensors", "int8", {}).path
    assert find.describe(path).parameters == find.describe(small).parameters == parameters
    assert find.describe(small).storage == "int8"


@pytest.mark.parametrize("content", [b"", b"no model", b"\x02\0\0\0\0\0\0\0{}"])
def test_bad_files(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a model|of format unknown"):
        find.describe(path)


def test_a_language_model_is_no_recogniser(tmp_path):
    path = save_lm(tmp_path / "lm.safetensors", {}, LMConfig(), CharTokenizer.from_texts(["A"]), {})
    with pytest.raises(InputError, match="of format asr-lm, expected asr-las"):
        find.describe(path)


def test_a_model_whose_dev_set_has_no_words(tiny_config, tmp_path):
    path = write_model(tmp_path / "x.safetensors", tiny_config)
    copy_with_info(path, path, {"dev_wer": None})  # an infinite rate
    assert find.describe(path).card == {}


def test_listing_does_not_import_torch(shelf):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from asr.commands import models as cli\nfrom asr.store import find\n"
        f"find.FOLDER = Path({str(shelf)!r})\ncli.main([])\ncli.main(['an4', '--json'])\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", find.names())
def test_bundled_models_are_small_and_described(name):
    path = find.find_model(find.FOLDER / name / find.BUNDLED_FILE)
    assert path.stat().st_size <= LARGEST
    assert find.read_card(path)
    assert find.describe(path).card.keys() >= FACTS
    read_model(path)
