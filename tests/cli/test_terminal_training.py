"""The commands that train, measure and fetch, and the demo, run for once as a person runs them: in a terminal."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from model.dataset.tables import write_table
from tests.model.dataset.bucket_server import serve
from tests.support import phantoms
from tests.support.recordings import FOLDER
from tests.support.terminal import Terminal, assert_clean, run

BAR = "━" * 24
NARROW = ("--width", 64)


def test_training_and_evaluation(program: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    phantoms.write_repository(repository, images=3, side=64)
    train = [program, "train", repository, "--output", "own.safetensors", "--epochs", 4, *NARROW]
    with Terminal(train, folder=tmp_path) as terminal:
        terminal.wait_for("loss")
        terminal.type("\x03")
        assert terminal.finish() == 130, terminal.text
        assert_clean(terminal)
        assert "holds what was learned" in terminal.flat
    code, terminal = run([*train, "--resume"], folder=tmp_path)
    assert code == 3, terminal.text  # a file is broken
    assert terminal.text.count(BAR) >= 2  # decoding and training, and at times one of a moment
    assert "accuracy" in terminal.text

    measure = ["--layers", "fcl1", "--protocol", "training-images", "--search", "exact", "--open"]
    page = tmp_path / "opened"
    browser = {"BROWSER": f"sh -c 'echo \"$0\" > {page}' %s"}
    code, terminal = run(
        [program, "evaluate", repository, "--model", "own.safetensors", *measure], environment=browser, folder=tmp_path
    )
    assert code == 3, terminal.text
    assert "searching" in terminal.text
    assert page.read_text().strip() == (tmp_path / "report" / "index.html").as_uri()


def test_ctrl_c_in_a_cross_validation(program: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    phantoms.write_repository(repository, images=5, side=32)
    command = [program, "cross-validate", repository, "--folds", 2, "--epochs", 1, *NARROW]
    with Terminal(command, folder=tmp_path) as terminal:
        terminal.wait_for("decoding")
        terminal.type("\x03")  # while processes of its own decode
        assert terminal.finish() == 130, terminal.text
        assert_clean(terminal)


@pytest.fixture(scope="module")
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many images that they are still being decoded when somebody presses Ctrl-C."""
    repository = tmp_path_factory.mktemp("many") / "repository"
    phantoms.write_repository(repository, images=10, side=256)
    for file in list(repository.rglob("*.dcm")):
        for number in range(14):
            shutil.copy(file, file.with_stem(f"{file.stem}-{number}"))
    return repository


@pytest.mark.parametrize("command", ["compress", "split"])
def test_ctrl_c_while_processes_of_its_own_decode(
    program: Path, model_path: Path, many_images: Path, tmp_path: Path, command: str
) -> None:
    repository = many_images
    arguments = {
        "compress": ["model", "compress", model_path, repository, "--output", tmp_path / "small"],
        "split": ["dataset", "split", tmp_path / "set"],
    }[command]
    if command == "split":
        made = [program, "dataset", "add", tmp_path / "set"]
        (tmp_path / "set").mkdir()
        for organ in ("eye", "knee"):
            made += ["--class", organ, repository / organ]
        assert run(made)[0] in {0, 3}
    with Terminal([program, *arguments], folder=tmp_path) as terminal:
        terminal.wait_for({"compress": "factorising", "split": "comparing"}[command])
        terminal.type("\x03")
        terminal.type("\x03")  # as somebody in a hurry does
        assert terminal.finish(40) == 130, terminal.text
        assert_clean(terminal)


def test_a_dataset_is_fetched(program: Path, tmp_path: Path) -> None:
    with serve({"brain": 3, "knee": 3}, series=1, slices=2) as server:
        write_table(server.plan, tmp_path / "plan.csv")
        fetch = [program, "dataset", "fetch", "plan.csv", "set", "--endpoint", server.endpoint]
        code, terminal = run(fetch, folder=tmp_path)
    assert code == 0, terminal.text
    assert terminal.text.count(BAR) == 2
    assert "12 images, 12 of them fetched now" in terminal.flat


def test_the_demo(tmp_path: Path) -> None:
    root = FOLDER.parents[2]
    environment = {"PYTHONPATH": str(root), "CBMIR_RUNTIME": "torch"}  # as whoever tries it
    code, terminal = run(
        [sys.executable, "-m", "tests.demo", "demo"], environment=environment, folder=tmp_path, columns=100
    )
    assert code == 0, terminal.text
    assert "149 files indexed as 364 points" in terminal.flat
    assert (tmp_path / "demo" / "sheet.png").stat().st_size > 10_000
    assert "The answers are in" in terminal.flat
