"""What the layout promises: imports point one way, heavy libraries stay in their package, nothing is unpickled."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BELOW = {
    "model": set(),
    "index": {"model"},
    "workers": {"model", "index"},
    "cli": {"model", "index", "workers"},
}
"""Package → the packages that it may import."""


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", BELOW)
def test_imports_point_one_way(package: str) -> None:
    for file in modules(package):
        crossed = {name.partition(".")[0] for name in imports(file)} & set(BELOW) - BELOW[package] - {package}
        assert not crossed, f"{file} imports {crossed}"


@pytest.mark.parametrize(
    ("library", "package"), [("ray", "workers"), ("qdrant_edge", "index"), ("pydicom", "model"), ("typer", "cli")]
)
def test_a_library_is_known_to_one_package(library: str, package: str) -> None:
    users = {p for p in BELOW for file in modules(p) for name in imports(file) if name.partition(".")[0] == library}
    assert users == {package}


def test_only_the_command_line_prints() -> None:
    for package in ("model", "index", "workers"):
        for file in modules(package):
            calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
            assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], file


def test_nothing_is_unpickled() -> None:
    for package in BELOW:
        for file in modules(package):
            text = file.read_text()
            assert "pickle" not in {name.partition(".")[0] for name in imports(file)}, file
            # A PyTorch file that a user brings in is read once, and nothing but tensors of it.
            loads = re.findall(r"torch\.load\([^)]*\)", text)
            assert all("weights_only=True" in load for load in loads), file
            assert not loads or file.name == "importing.py", file
            assert "allow_pickle" not in text, file
