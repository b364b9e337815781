"""Finding model files by name, and describing them, without torch.

A model is a file, the folder of a training, or the name of one that comes with the package:
``asr/models/NAME`` holds the file and a card, a page on what the model hears, what it does not,
where it comes from and how good it is. A few of these facts also stand in the file's header
(``asr export --info``).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.config import DecodeConfig
from asr.config.read import from_dict
from asr.errors import InputError, first_line

FORMAT = "asr-las"  # in the header of every model file
MODEL_FILE = "final.safetensors"  # of a training
FOLDER = Path(__file__).resolve().parents[1] / "models"
DEFAULT = "an4"  # what `asr transcribe` takes where no model is named
# What reading a file raises whose header says something else than it should.
DAMAGED = (
    *(OSError, KeyError, ValueError, AttributeError, TypeError),
    *(RecursionError, ArithmeticError),
)
SHIPPED_FILE, CARD = "model.safetensors", "MODEL_CARD.md"


@dataclass(frozen=True)
class Description:
    """Description of a model file."""

    name: str
    path: str
    characters: str
    """Those that it can write, in the order of their ids."""
    parameters: int
    size: int
    """Bytes of the file."""
    storage: str
    """How its weights are stored: float32, float16 or int8."""
    confidence: bool
    """Whether it says how sure it is (``asr calibrate``)."""
    search: dict[str, Any]
    """Search settings that it comes with (``asr export --search``)."""
    card: dict[str, str]
    """Facts of its card, such as hears, languages, wer, licence."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def find_model(path: str | Path) -> Path:
    """The model file that is meant.

    Args:
        path: a model file, the folder of a finished training, a recipe's ``exp`` folder with one
            finished training in it, or the name of a model that ships; what is there as a file
            or folder wins over a name.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        return _model_in(path)
    if shipped := shipped_file(str(path)):
        return shipped
    known = f", a model file or one of the names {', '.join(names())}" if names() else ""
    raise InputError(
        f"{path}: no such model; expected a folder made by `asr train`{known or ' or a model file'}"
    )


def _model_in(folder: Path) -> Path:
    """The model of a finished training, or of the only one in a recipe's ``exp`` folder."""
    if (folder / MODEL_FILE).is_file():
        return folder / MODEL_FILE
    inside = sorted(folder.glob(f"*/{MODEL_FILE}"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        found = ", ".join(str(path.parent) for path in inside)
        raise InputError(f"{folder}: {len(inside)} trainings, expected one; name one of {found}")
    shipped = shipped_file(str(folder))
    hint = f"; the model that ships under this name is {shipped}" if shipped else ""
    raise InputError(
        f"{folder}: no {MODEL_FILE} in this folder, expected the output of `asr train`; "
        f"let the training finish, or name one of its checkpoints/*.safetensors{hint}"
    )


def names() -> list[str]:
    """Names of the models that ship, the default first."""
    found = sorted(path.parent.name for path in FOLDER.glob(f"*/{SHIPPED_FILE}"))
    return sorted(found, key=lambda name: name != DEFAULT)


def shipped_file(name: str) -> Path | None:
    """Return the file of the bundled model of this name, or None."""
    return FOLDER / name / SHIPPED_FILE if name in names() else None


def default_model() -> Path:
    """Return the file of the default model.

    Raises:
        InputError: it does not ship with this installation.
    """
    if found := shipped_file(DEFAULT):
        return found
    others = f"name one of {', '.join(names())} or " if names() else ""
    raise InputError(
        f"no model is named, and the default one ({DEFAULT}) does not come with this "
        f"installation: {others}give a training's folder or a model file; `asr train --help` says "
        "how to train one"
    )


def search_settings(model: str | Path | None) -> dict[str, Any]:
    """The search settings that come with a model, or with the default one.

    Raises:
        InputError: there is no such model, it is damaged, or has what is no search setting.
    """
    path = find_model(model) if model else default_model()
    return own_settings(describe(path).search, path)


def own_settings(search: Any, path: Path) -> dict[str, Any]:
    """Search settings out of a model file, each checked.

    A model may come from anybody. It chooses neither what is read nor what is written.

    Raises:
        InputError: a name is none of a search setting, or of one that names a file; or a value
            is out of range.
    """
    where = f"{path}: search settings of the model"
    settings = asdict(from_dict(DecodeConfig, search, where))
    for name in (n for n in search if isinstance(settings[n], str) and settings[n]):
        raise InputError(
            f"{where}: {name} = {settings[name]}: names a file, which a model must not bring; "
            "take the model from somebody you trust, or `asr export --search` it without"
        )
    return {name: settings[name] for name in search if not isinstance(settings[name], str)}


def read_card(model: Path) -> str | None:
    """The card that lies beside a model file, if there is one."""
    card = model.with_name(CARD)
    return card.read_text(encoding="utf-8", errors="backslashreplace") if card.is_file() else None


def describe(path: Path) -> Description:
    """Describe a model file by its header.

    Raises:
        InputError: it is not a model file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise InputError(f"{path}: a safetensors file, but not a model of this project")
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        info, symbols = json.loads(header["info"]), json.loads(header["symbols"])
        return Description(
            name=path.parent.name if path.name in (MODEL_FILE, SHIPPED_FILE) else path.stem,
            path=str(path),
            characters="".join(_shown(symbol) for symbol in symbols),
            parameters=sum(_numbers(name, shape) for name, shape in shapes.items()),
            size=path.stat().st_size,
            storage=header.get("storage", "float32"),
            confidence="confidence" in info,
            search=info.get("search", {}),
            card=_facts(info),
        )
    except (SafetensorError, *DAMAGED) as error:
        raise InputError(
            f"{path}: not a model file, or damaged ({first_line(error)}); copy or train it again"
        ) from error


def _facts(info: dict[str, Any]) -> dict[str, str]:
    """The card's facts; the error rate on the training's own dev set where it names no other."""
    facts = {str(key): str(value) for key, value in info.get("card", {}).items()}
    if "dev_wer" in info:
        facts.setdefault("wer", f"{100 * info['dev_wer']:.1f} % (dev set of its training)")
    return facts


def _shown(symbol: str) -> str:
    return " " if symbol == "<space>" else symbol if len(symbol) == 1 else ""


def _numbers(name: str, shape: list[int]) -> int:
    """How many weights a tensor holds: none if it is a scale of others or about features."""
    count = 0 if name.endswith(":scale") or name.startswith("cmvn.") else 1
    for size in shape:
        count *= size
    return count
