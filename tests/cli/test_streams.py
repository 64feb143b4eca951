"""The program where standard input, output and error, or the working directory, are not as usual."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from index.address import parse_address
from index.opening import create_index
from tests.index.conftest import describe, make_points
from tests.support.terminal import FAULTS


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with create_index(parse_address(tmp_path / "index"), describe(), purpose="test") as opened:
        opened.upsert(make_points(30))
    return tmp_path / "index"


def shell(line: str, folder: Path) -> tuple[int, str, str]:
    """What a line of bash ends with, and what it writes."""
    done = subprocess.run(["bash", "-c", line], check=False, capture_output=True, cwd=folder)
    for stream in (done.stdout, done.stderr):
        assert not FAULTS.search(stream), stream.decode()
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_closed_streams(program: Path, index: Path, tmp_path: Path) -> None:
    code, out, _ = shell(f"{program} status --index index 2>&-", tmp_path)
    assert (code, "points" in out) == (0, True)
    assert shell(f"{program} status --index index >&-", tmp_path)[0] == 0
    assert shell(f"{program} nonsense 2>&-", tmp_path)[0] == 2
    code, _, error = shell(f"{program} search - --index index --model bundled <&-", tmp_path)
    assert code == 1
    assert "Error: " in error
    (tmp_path / "empty").mkdir()
    code, _, error = shell(f"{program} index - --index other <&-", tmp_path)
    assert code == 1
    assert "the list names no file" in error


def test_a_reader_that_has_had_enough(program: Path, index: Path, tmp_path: Path) -> None:
    code, _, error = shell(f"{program} --help | head -1; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (code in {0, 141}, error) == (True, "")
    code, _, error = shell(f"{program} status --index index --format json | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (code in {0, 141}, error) == (True, "")


def test_a_working_directory_that_is_gone(program: Path, index: Path, tmp_path: Path) -> None:
    gone = "mkdir gone; cd gone; rmdir ../gone; "
    assert shell(f"{gone} {program} --help", tmp_path)[0] == 0
    code, _, error = shell(f"{gone} {program} status --index {index}", tmp_path)
    assert code == 1
    assert "the working directory of this shell is gone: change to one that exists" in error


def test_version_and_quiet(program: Path, index: Path, archive: Path, tmp_path: Path) -> None:
    code, out, _ = shell(f"{program} --version", tmp_path)
    assert (code, out.split()[0], out.split()[1][0].isdigit()) == (0, "cbmir", True)
    command = f"{program} %s delete --where modality=XX --index index --yes"
    assert "nothing in the index has modality=XX" in shell(command % "", tmp_path)[2]
    code, out, error = shell(command % "--quiet", tmp_path)
    assert (code, out, error) == (0, f"0 points deleted from {index}\n", "")
    assert "Error: " in shell(f"{program} -q status --index absent", tmp_path)[2]


def test_records_are_utf_8_in_every_locale(program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "模型"
    create_index(parse_address(folder), describe(), purpose="test").close()
    environment = {**os.environ, "PYTHONIOENCODING": "iso-8859-1"}
    command = [program, "status", "--index", folder, "--format", "json"]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, env=environment)
    assert json.loads(done.stdout.decode())["index"] == str(folder)


def test_where_nobody_listens_it_is_said_soon(program: Path, index: Path, archive: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/scans"
    lines = {
        f"copy index {nowhere}": 40,
        f"index {shlex.quote(str(archive))} --index {nowhere} --dry-run": 40,
        f"search --like 00000000 --index {nowhere}": 40,
        f"index {shlex.quote(str(archive))} --index other --ray-address 127.0.0.1:9": 40,
    }
    with ThreadPoolExecutor(len(lines)) as pool:  # each of them mostly waits
        for code, _, error in pool.map(lambda line: shell(f"timeout {lines[line]} {program} {line}", tmp_path), lines):
            assert code == 1, error
            assert "nobody listens at 127.0.0.1:9" in error or "cannot be reached: is the server running" in error


def test_exit_code_2_is_a_command_line_that_cannot_work(
    cbmir: Callable[..., int], index: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (("search", "q", "--index", index, "--format", "yaml"), "'yaml' is not one of 'table', 'json', 'csv'"),
        (("search", "q", "--index", index, "--format", "jsn"), "Did you mean 'json'?"),
        (("search", "q", "--index", index, "--top", "0"), "greater than or equal to 1"),
        (("search", "q", "--index", index, "--layer", "fc1"), "did you mean 'fcl1'?"),
        (("search", "q", "--index", index, "--organ", "Nee"), "did you mean 'knee'?"),
        (("search", "q", "--index", index, "--open"), "name the page to write by --sheet"),
        (("train", archive, "--recipe", "slow"), "'slow' is not one of"),
        (("index", archive, "--index", tmp_path / "new", "--layers", "projectd"), "did you mean 'projected'?"),
        (("index", archive, "--index", tmp_path / "new", "--prune", "--yes", "--limit", 2), "exclude each other"),
        (("index", archive, "--index", tmp_path / "new", "--report", tmp_path), "is a folder: name the file"),
    ):
        assert cbmir(*arguments) == 2, arguments
        assert said in " ".join(capsys.readouterr().err.split()), arguments
