"""Every command that draws, run for once as a person runs it: in a terminal of 80 columns, with keys and Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from index.ledger import Ledger
from tests.support import phantoms
from tests.support.terminal import Terminal, assert_clean, run

BAR = "━" * 24


@pytest.fixture(scope="module")
def scans(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms, and one whose name would clear the screen and write a title."""
    folder = Path(shutil.copytree(archive, tmp_path_factory.mktemp("terminal") / "scans with blanks"))
    eye = folder / "eye" / "eye-000.dcm"
    phantoms.dicom([phantoms.draw("eye", 99, 64)], "eye", 99).save_as(
        eye.with_name("clear\x1b[2Jscreen\x1b]0;title\x07.dcm"), enforce_file_format=True
    )
    return folder


@pytest.fixture(scope="module")
def index(program: Path, scans: Path, model_path: Path) -> Path:
    """Made in a terminal, whose screen is looked at."""
    folder = scans.parent / "index"
    code, terminal = run([program, "index", scans, "--index", folder, "--model", model_path])
    assert code == 3, terminal.text
    assert "starting Ray" in terminal.written.decode()
    assert "Ray's workers load the network" in terminal.written.decode()
    stages = [line for line in terminal.lines if line.split()[0] in {"discover", "decode", "embed", "store"}]
    assert len(stages) == 4
    assert all(BAR in line for line in stages), terminal.text
    assert "27/27" in stages[3]  # the broken file is among them
    assert "26 files indexed as 29 points, 0 unchanged, 1 left out" in terminal.flat
    assert "left out: " in terminal.text
    assert "knee-broken.dcm" in terminal.text.replace("\n", "")
    assert "next: cbmir search '" in terminal.flat  # quoted, as the folder's name has blanks
    return folder


@pytest.mark.parametrize("columns", [40, 200])
def test_paths_and_ids_of_hits_can_be_copied(
    program: Path, scans: Path, index: Path, columns: int, tmp_path: Path
) -> None:
    query = [program, "search", scans / "eye" / "eye-001.dcm", "--index", index, "--no-class-prediction", "--top", 29]
    piped = subprocess.run([*map(str, query), "--format", "json"], check=True, capture_output=True, cwd=tmp_path)
    hits = json.loads(piped.stdout)[0]["hits"]
    code, terminal = run(query, columns=columns, folder=tmp_path)
    assert code == 0
    joined = terminal.text.replace("\n", "")  # a path that is wider than the terminal is wrapped by the terminal
    for hit in hits:
        assert hit["path"].replace("\x1b", "\\x1b").replace("\x07", "\\x07") in joined
        assert hit["id"][:8] in terminal.text
    assert b"\x1b[2J" not in terminal.written
    assert b"title\x07" not in terminal.written
    code, again = run([program, "search", "--like", hits[3]["id"][:8], "--index", index, "--exclude-same", "none"])
    assert code == 0
    assert hits[3]["id"][:8] in again.text


def test_through_a_pipe_every_hit_is_one_whole_line(program: Path, scans: Path, index: Path) -> None:
    query = [program, "search", scans / "eye" / "eye-001.dcm", "--index", index, "--no-class-prediction", "--top", 4]
    done = subprocess.run([*map(str, query)], check=True, capture_output=True, text=True, cwd="/")
    _, _, header, *rows = done.stdout.splitlines()
    assert header.split()[-2:] == ["id", "path"]
    assert len(rows) == 4
    paths = [row[header.index("path") :].encode().decode("unicode_escape") for row in rows]
    assert all(Path("/", path).is_file() for path in paths), rows


def test_thumbnails(program: Path, scans: Path, index: Path) -> None:
    query = [program, "search", scans / "eye" / "eye-001.dcm", "--index", index, "--top", 3, "--thumbnails"]
    code, terminal = run([*query, "--no-class-prediction"])
    assert code == 0
    assert "▀" * 22 in terminal.text
    assert "query: " in terminal.text
    code, plain = run([*query, "--no-class-prediction"], environment={"TERM": "dumb"})
    assert code == 0
    assert "a dumb terminal draws no pictures: use --sheet" in plain.flat
    code, without_rows = run([*query, "--no-class-prediction"], lines=0)  # as after 'stty cols 80' in a container
    assert code == 0
    assert "does not tell its size" in without_rows.flat


@pytest.mark.parametrize(
    "environment",
    [
        {"TERM": "dumb"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "iso-8859-1"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_everything_that_does_not_move_is_readable_everywhere(
    program: Path, scans: Path, index: Path, model_path: Path, environment: dict[str, str]
) -> None:
    commands: list[list[object]] = [
        ["status", "--index", index],
        ["search", scans / "eye" / "eye-001.dcm", "--index", index, "--thumbnails", "--no-class-prediction"],
        ["inspect", scans / "eye" / "eye-001.dcm", "--model", model_path],
        ["--help"],
        ["index", "--help"],
        ["model", "show"],
    ]
    # What a stream cannot write it cannot write for any of them; a terminal's kind is each drawing's own matter.
    for arguments in commands if "TERM" in environment else commands[:2]:
        code, terminal = run([program, *arguments], environment=environment)
        assert code == 0, (arguments, terminal.text)
        if environment.get("TERM") == "dumb":
            assert b"\x1b" not in terminal.written, arguments
        if environment.keys() & {"LC_ALL", "PYTHONIOENCODING"}:
            terminal.written.decode("iso-8859-1")
            assert "\\u" not in terminal.text, (arguments, terminal.text)


def test_questions_are_asked_and_answered(
    program: Path, program_without_ray: tuple[str, ...], scans: Path, index: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(index, tmp_path / "index"))
    for key, said in (("n", "0 points deleted"), ("y", "4 points deleted")):
        with Terminal([program, "delete", "--where", "modality=dx", "--index", copy]) as terminal:
            terminal.wait_for("Delete 4 points")
            terminal.type(f"{key}\n")
            assert terminal.finish() == 0
            assert said in terminal.flat
            assert_clean(terminal)

    fewer = Path(shutil.copytree(scans / "eye", tmp_path / "eye"))
    index_it = [*program_without_ray, "index", fewer, "--index", tmp_path / "eyes"]
    assert run([*index_it, "--limit", "2"])[0] == 0
    gone = min(fewer.iterdir())
    gone.unlink()
    for key in ("\x03", "y"):
        with Terminal([*index_it, "--prune"]) as terminal:
            terminal.wait_for("Remove what the index has of 1 files that are gone?")
            terminal.type(f"{key}\n" if key != "\x03" else key)
            code = terminal.finish()
            assert code == (130 if key == "\x03" else 0), terminal.text
            assert_clean(terminal)


def test_copy_backup_restore_and_upgrade(program: Path, index: Path, tmp_path: Path) -> None:
    code, terminal = run([program, "copy", index, tmp_path / "copy"])
    assert code == 0, terminal.text
    assert BAR in terminal.text
    assert "holds the 29 points" in terminal.flat
    code, terminal = run([program, "backup", tmp_path / "index.tar.gz", "--index", index])
    assert code == 0
    assert BAR in terminal.text
    code, terminal = run([program, "restore", tmp_path / "index.tar.gz", "--index", tmp_path / "restored"])
    assert code == 0
    assert "holds the 29 points" in terminal.flat
    code, terminal = run([program, "upgrade", "--index", tmp_path / "restored"])
    assert code == 0
    assert BAR in terminal.text
    assert "0 points know their place now" in terminal.flat  # of phantoms no header says it


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_job_is_stopped_and_goes_on(
    program: Path,
    program_without_ray: tuple[str, ...],
    archive: Path,
    model_path: Path,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    command = [program, "index", archive, "--index", tmp_path / "index", "--model", model_path]
    with Terminal(command) as terminal:
        terminal.wait_for("load the network" if number == signal.SIGINT else "starting Ray")
        if number == signal.SIGINT:
            terminal.type("\x03")  # it reaches every process of the terminal, Ray's own as well
        else:
            os.kill(terminal.pid, number)
        assert terminal.finish(60) == code, terminal.text
        assert_clean(terminal)
        assert "the same command goes on" in terminal.flat
    ledger = Ledger(tmp_path / "index", read_only=True)
    job = ledger.last_job()
    ledger.close()
    assert job
    assert job.report
    assert job.outcome == "interrupted"
    _, status = run([program, "status", "--index", tmp_path / "index"])
    assert "interrupted, " in status.flat
    # On a busy machine the screen says late what runs, and the job may have stored every file when the keys come.
    assert (" files still to do" in status.flat) == (json.loads(job.report)["files_missing"] > 0)
    assert "complete no: run the same" in status.flat
    if number == signal.SIGTERM:
        return
    assert run([*program_without_ray, *command[1:]])[0] == 3
    _, status = run([program, "status", "--index", tmp_path / "index"])
    assert "complete yes" in status.flat
    assert "still to do" not in status.flat
