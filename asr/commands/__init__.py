"""The command line: a file for each verb, whose docstring is its help and whose main runs it."""

import ast
from pathlib import Path

GROUPS = {
    "prepare": ("data", "features", "chars", "lm"),
    "train": ("train", "average", "ensemble", "calibrate", "export"),
    "recognise": ("transcribe", "listen", "decode", "align"),
    "score": ("score", "tune"),
    "look inside": ("explain", "models", "bench", "doctor", "completion"),
}
VERBS = [verb for verbs in GROUPS.values() for verb in verbs]


def summary(verb: str) -> str:
    """Return the first line of the docstring of a verb, without importing its file."""
    source = Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")
