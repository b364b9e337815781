"""Find model files by name, and describe them.

A model is a file, the folder of a training, or the name of a model in the package. The folder
``asr/models/NAME`` holds such a model and its card: a page on the speech that it recognises, its
limits, its origin and its error rates. The header of the file repeats some of these facts
(``asr export --info``).
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.config import DecodeConfig
from asr.config.read import from_dict
from asr.errors import InputError, first_line
from asr.text.tokenizer import SPACE

FORMAT, LM_FORMAT = "asr-las", "asr-lm"  # in the headers of model files
_MADE_BY = {FORMAT: "asr train", LM_FORMAT: "asr lm train"}
MODEL_FILE = "final.safetensors"  # of a training
FOLDER = Path(__file__).resolve().parents[1] / "models"
DEFAULT = "an4"  # model of `asr transcribe` without --model
MODEL = "folder of a training, model file, or a name of `asr models`"  # help of an option
HEADER_ERRORS = (  # from reading a damaged header
    *(OSError, KeyError, ValueError, AttributeError, TypeError),
    *(RecursionError, ArithmeticError),
)
BUNDLED_FILE, CARD = "model.safetensors", "MODEL_CARD.md"


def damaged(path: str | Path, what: str) -> InputError:
    """Return the error for a model file that cannot be used, and why."""
    return InputError(f"{path}: {what}; copy or train the model again")


def check_format(path: Path, header: dict[str, str], form: str = FORMAT) -> None:
    """Raise InputError if the header of a safetensors file names another format."""
    if header.get("format") != form:
        raise InputError(
            f"{path}: a safetensors file of format {header.get('format', 'unknown')}, expected "
            f"{form}; name a file that `{_MADE_BY[form]}` made"
        )


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Description:
    """Description of a model file."""

    name: str
    path: str
    characters: str
    """The characters that it can write, in the order of their ids."""
    parameters: int
    size: int
    """Bytes of the file."""
    storage: str
    """Storage type of its weights: float32, float16 or int8."""
    confidence: bool
    """Whether it estimates its confidence (``asr calibrate``)."""
    search: dict[str, Any]
    """Its search settings (``asr export --search``)."""
    card: dict[str, str]
    """Facts of its card, such as hears, languages, wer, licence."""


def find_model(path: str | Path) -> Path:
    """Return the file of a model.

    Args:
        path: a model file, the folder of a finished training, a recipe's ``exp`` folder with one
            finished training, or the name of a bundled model. A file or folder takes precedence
            over a bundled model of the same name.

    Raises:
        InputError: there is no such model.
    """
    if not str(path):
        raise InputError("an empty name of a model; name a model file or the folder of a training")
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        return _model_in(path)
    if bundled := bundled_file(str(path)):
        return bundled
    known = f", a model file or one of the names {', '.join(names())}" if names() else ""
    raise InputError(
        f"{path}: no such model; expected a folder made by `asr train`{known or ' or a model file'}"
    )


def _model_in(folder: Path) -> Path:
    """Return the model of a finished training, or of the only one in a recipe's ``exp`` folder."""
    if (folder / MODEL_FILE).is_file():
        return folder / MODEL_FILE
    inside = sorted(folder.glob(f"*/{MODEL_FILE}"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        found = ", ".join(str(path.parent) for path in inside)
        raise InputError(f"{folder}: {len(inside)} trainings, expected one; name one of {found}")
    bundled = bundled_file(str(folder))
    hint = f"; the bundled model of this name is {bundled}" if bundled else ""
    raise InputError(
        f"{folder}: no {MODEL_FILE} in this folder, expected the output of `asr train`; "
        f"let the training finish, or name one of its checkpoints/*.safetensors{hint}"
    )


def names() -> list[str]:
    """Return the names of the bundled models, the default first."""
    found = sorted(path.parent.name for path in FOLDER.glob(f"*/{BUNDLED_FILE}"))
    return sorted(found, key=lambda name: name != DEFAULT)


def bundled_file(name: str) -> Path | None:
    """Return the file of the bundled model of this name, or None."""
    return FOLDER / name / BUNDLED_FILE if name in names() else None


def default_model() -> Path:
    """Return the file of the default model.

    Raises:
        InputError: this installation does not include it.
    """
    if found := bundled_file(DEFAULT):
        return found
    others = f"one of {', '.join(names())}, " if names() else ""
    raise InputError(
        f"no model is named, and this installation does not include the default model ({DEFAULT}); "
        f"name {others}a training's folder or a model file; `asr train` makes one"
    )


def search_settings(model: str | Path | None) -> dict[str, Any]:
    """Return the search settings of a model, by default of the default model.

    Raises:
        InputError: there is no such model, it is damaged, or its settings are invalid.
    """
    path = find_model(model) if model else default_model()
    return own_settings(describe(path).search, path)


def own_settings(search: Any, path: Path) -> dict[str, Any]:
    """Return the search settings of a model file after checking them.

    A model may come from anybody, so it must not choose which files are read.

    Raises:
        InputError: a name is not that of a search setting, a setting names a file, or a value is
            out of range.
    """
    where = f"{path}: search settings of the model"
    settings = asdict(from_dict(DecodeConfig, search, where))
    for name in (n for n in search if isinstance(settings[n], str) and settings[n]):
        raise InputError(
            f"{where}: {name} = {settings[name]}: names a file, which a model must not do; get the "
            "model from somebody you trust, or remove the setting with `asr export --search`"
        )
    return {name: settings[name] for name in search if not isinstance(settings[name], str)}


def read_card(model: Path) -> str | None:
    """Return the card beside a model file, or None."""
    card = model.with_name(CARD)
    return card.read_text(encoding="utf-8", errors="backslashreplace") if card.is_file() else None


def describe(path: Path) -> Description:
    """Describe a model file by its header.

    Raises:
        InputError: it is not a model file, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            check_format(path, header)
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        info, symbols = json.loads(header["info"]), json.loads(header["symbols"])
        in_folder = path.name in (MODEL_FILE, BUNDLED_FILE)
        return Description(
            name=path.absolute().parent.name if in_folder else path.stem,
            path=str(path),
            characters="".join(s for s in symbols if len(s) == 1 or s == SPACE).replace(SPACE, " "),
            parameters=sum(math.prod(shape) for name, shape in shapes.items() if _counts(name)),
            size=path.stat().st_size,
            storage=header.get("storage", "float32"),
            confidence="confidence" in info,
            search=info.get("search", {}),
            card=_facts(info),
        )
    except (SafetensorError, *HEADER_ERRORS) as error:
        raise damaged(path, f"not a model file, or damaged ({first_line(error)})") from error


def _facts(info: dict[str, Any]) -> dict[str, str]:
    """Return the card's facts; its default error rate is that of the training's dev set."""
    facts = {str(key): str(value) for key, value in info.get("card", {}).items()}
    if info.get("dev_wer") is not None:  # null if the dev set has no words
        facts.setdefault("wer", f"{100 * info['dev_wer']:.1f} % (dev set of its training)")
    return facts


def _counts(name: str) -> bool:
    """Whether a tensor holds parameters, and not their scales or feature statistics."""
    return not (name.endswith(":scale") or name.startswith("cmvn."))
