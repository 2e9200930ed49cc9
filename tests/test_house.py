"""The house: floors, sizes, and what a small keeper must not carry."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(path for folder in ("omtools", "omtui", "tests") for path in (ROOT / folder).rglob("*.py"))
LINES, LINES_OF_A_FUNCTION = 500, 50

def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )


def test_each_floor_imports_only_from_those_below() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = run("-c", code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in CODE}
    assert {name: length for name, length in lengths.items() if length > LINES} == {}


def test_no_function_is_too_long() -> None:
    found = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > LINES_OF_A_FUNCTION:
                    found.append(f"{name_of(path)}: {node.name} has {length} lines")
    assert found == []


def test_test_files_have_names_of_their_own() -> None:
    """Folders without __init__.py share one name space in pytest."""
    flat = [path.name for path in CODE if name_of(path).startswith("tests/")
            and not (path.parent / "__init__.py").exists() and path.name != "conftest.py"]  # fmt: skip
    assert sorted(flat) == sorted(set(flat))


def test_every_test_folder_mirrors_a_package() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"bench", "__pycache__"}
    packages = {path.name for path in (ROOT / "omtools").iterdir() if path.is_dir()}
    assert folders <= packages | {"omtui", "lessons", "man"}


@pytest.mark.parametrize("heavy", ["asyncssh", "cryptography", "rich", "asyncio"])
def test_keepers_are_small(heavy: str) -> None:
    done = run("-c", f"import sys, omtools.migration.template; print({heavy!r} in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_a_keeper_knows_nothing_of_the_floors_above() -> None:
    loaded = run("-c", "import sys, omtools.migration.template; print(*sys.modules)").stdout.split()
    allowed = ("omtools.migration", "omtools.image", "omtools.linux", "omtools.errors", "omtools.i18n")
    ours = [name for name in loaded if name.startswith("omtools.")]
    assert len(ours) > 20
    assert [name for name in ours if not name.startswith(allowed)] == []
