"""What README and docs say: their links lead somewhere, and their commands have the options that are shown."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.app import app
from tests.support import phantoms

ROOT = Path(__file__).parents[1]
TEXTS = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> Iterator[str]:
    """The lines of code blocks that call the program, without prompt, comment and what a person fills in."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = re.sub(r"^(\$ |\w+=\S+ )*", "", line).partition("#")[0].partition(" | ")[0]
            if words.startswith("cbmir "):
                yield words.replace("...", "").replace(";", "").strip()


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_links_lead_to_files(text: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text.read_text()):
        if not re.match(r"\w+:|#", target):
            assert (text.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_commands_have_the_options_that_are_shown(text: Path) -> None:
    root: Any = typer.main.get_command(app)
    for line in commands(text.read_text()):
        words = shlex.split(line)[1:]
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not root or all(word.startswith("-") for word in words), line
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
        for word in words:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in known, f"{line}: {word}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_the_program_in_built_md_runs_as_it_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "archive").mkdir()
    phantoms.write_repository(tmp_path / "archive", images=2, side=64)
    shutil.copy(tmp_path / "archive/knee/knee-001.dcm", tmp_path / "query.dcm")
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "built.md"
    program = page.read_text().split("```python\n")[1].split("```")[0]
    exec(compile(program, str(page), "exec"), {})
    hits = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert hits[0][-1].startswith("knee/")
    assert [float(hit[0]) for hit in hits] == sorted(float(hit[0]) for hit in hits)
