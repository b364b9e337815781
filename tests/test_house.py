"""Rules of the house: imports point one way, some packages do without torch, code stays small."""

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# A package imports only packages before it; every package may import the files of asr/ that are in
# none.
WITHOUT_TORCH = (
    "config", "text", "audio", "corpus", "store", "lm", "search", "score", "recognize", "explain",
    "tune",
)  # fmt: skip
PACKAGES = (*WITHOUT_TORCH, "model", "train", "loading", "bench", "commands", "cli", "__main__")
FRONT = ("asr",)  # asr/__init__.py: what Python callers import; any package may stand behind it
BLOCKED = ("torch", "torchaudio", "librosa", "scipy")
WITH_SETTINGS = ("train", "decode", "transcribe", "listen", "align", "calibrate", "explain")
LINES = 23_205
LONGEST = 60  # lines of a function


def modules() -> dict[str, Path]:
    """Every Python file of asr/ by its name below asr, such as ``search.beam``."""
    found = {}
    for path in sorted((ROOT / "asr").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts[1:] if part != "__init__")
        found[name or "asr"] = path
    return found


FILES = modules()


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of asr that the statements of ``tree`` import, named as in FILES."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [n if n.removeprefix("asr.") in FILES else node.module for n in whole]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "asr":
                yield name.removeprefix("asr.")


def package(name: str) -> str:
    return name.split(".")[0]


def test_every_folder_is_a_package() -> None:
    folders = {path.parent.name for path in (ROOT / "asr").glob("*/__init__.py")}
    assert folders <= set(PACKAGES), "give the new package its place in PACKAGES"


def test_imports_point_to_earlier_packages() -> None:
    wrong = []
    for name, path in FILES.items():
        if name in FRONT:
            continue
        order = PACKAGES.index(package(name)) if package(name) in PACKAGES else -1
        for other in imported(ast.parse(path.read_text())):
            if package(other) in PACKAGES and PACKAGES.index(package(other)) > order:
                wrong.append(f"asr.{name} imports asr.{other}")
    assert not wrong, "a package imports only packages before it: " + "; ".join(sorted(set(wrong)))


def test_no_import_circle() -> None:
    """Not even one that an import inside a function hides."""
    edges = {name: set(imported(ast.parse(path.read_text()))) for name, path in FILES.items()}
    finished: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in finished:
            for other in sorted(edges.get(name, ())):
                visit(other, [*trail, name])
            finished.add(name)

    for name in edges:
        visit(name, [])


def test_import_without_torch() -> None:
    names = [f"asr.{name}" for name in FILES if package(name) in WITHOUT_TORCH]
    program = (
        "import importlib, sys\n"
        f"for name in {BLOCKED}: sys.modules[name] = None\n"
        f"for name in {names}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError as error: print(name, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not done.stdout, f"{BLOCKED} are for the packages from model/ on:\n{done.stdout}"


def test_help_without_torch() -> None:
    """Help answers at once, and parsers of a few plain options do without jsonargparse."""
    program = (
        "import contextlib, io, sys\n"
        "from asr.cli import VERBS, main\n"
        f"for verb in sorted(VERBS, key={WITH_SETTINGS}.__contains__):\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        main([verb, '--help'])\n"
        f"    heavy = {BLOCKED} if verb in {WITH_SETTINGS} else (*{BLOCKED}, 'jsonargparse')\n"
        "    found = [name for name in heavy if name in sys.modules]\n"
        "    assert not found, (verb, found)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def lines_of_code(source: str) -> int:
    """Count the lines that are neither blank nor only a comment or a docstring."""
    texts = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    skipped = {n for node in texts for n in range(node.lineno, (node.end_lineno or 0) + 1)}
    other = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in other | {tokenize.ENDMARKER}:
            used.update(range(token.start[0], token.end[0] + 1))
    return len(used - skipped)


def test_lines_of_code() -> None:
    assert lines_of_code('"""Title.\n\nText.\n"""\n\nx = """a\nb"""  # why\n# comment\n') == 2
    lines = sum(lines_of_code(path.read_text()) for path in FILES.values())
    assert lines <= LINES, f"asr/ has {lines} lines: delete some, or raise the limit on purpose"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield node.name, node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    found = [
        f"asr.{name}:{function} has {lines} lines"
        for name, path in FILES.items()
        if not name.startswith("model.fast")  # loops over pointers and Triton's programs
        for function, lines in functions(path)
        if lines > LONGEST
    ]
    assert not found, f"cut what has more than {LONGEST} lines: " + "; ".join(found)
