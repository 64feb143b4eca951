from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from index.address import parse_address
from index.opening import resolve_model
from model.errors import CheckpointError
from model.images.reading import read_frames
from model.network.bundled import DEFAULT, bundled_models, find_model, find_network
from model.network.checkpoint import load_network, read_centroids, save_checkpoint
from model.network.embedder import Embedder
from model.network.heads import head_path
from model.network.metadata import Calibration, read_metadata
from model.network.probe import probe_path
from model.training.repository import read_repository, split_repository
from tests.index.conftest import describe
from tests.support import phantoms
from tests.support.models import NARROW, make_model, prepared, timm_encoder

Cbmir = Callable[..., int]


def test_models_are_listed_and_shown(cbmir: Cbmir, capsys: pytest.CaptureFixture[str]) -> None:
    assert cbmir("model", "list") == 0
    assert f"{DEFAULT} (default)" in capsys.readouterr().out
    assert cbmir("model", "show") == 0
    shown = capsys.readouterr().out
    assert read_metadata(find_model()).fingerprint in shown
    assert "not a medical device" in " ".join(shown.split())


def test_the_bundled_model_is_used_where_none_is_named(
    cbmir: Cbmir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phantoms.dicom([phantoms.draw("chest", 1, 64)], "chest", 1).save_as(tmp_path / "a", enforce_file_format=True)
    assert cbmir("inspect", tmp_path / "a", "--no-picture") == 0
    assert "predicted" in capsys.readouterr().out
    assert cbmir("inspect", tmp_path / "a", "--no-picture", "--no-prediction") == 0
    assert "predicted" not in capsys.readouterr().out


def test_a_model_is_found_by_path_or_name(model_path: Path) -> None:
    assert find_model(model_path) == model_path
    assert find_model() == find_model("bundled") == find_model(DEFAULT) == bundled_models()[DEFAULT]
    for network in (find_network("bundled"), find_model(layers=("fcl1", "fcl3"))):
        assert network == bundled_models()["atlas"]  # which has the paper's layers
    assert find_model(layers=("projected",)) == find_model()
    with pytest.raises(CheckpointError, match=r"bundled model \(atlas, lite0, organs24, pair\)"):
        find_model("organs25")


def test_a_folder_does_not_hide_a_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / DEFAULT).mkdir()  # as the images that it was trained on may lie there
    monkeypatch.chdir(tmp_path)
    assert find_model(DEFAULT) == bundled_models()[DEFAULT]


def test_an_index_made_by_the_bundled_model_finds_it_wherever_the_program_is_installed(tmp_path: Path) -> None:
    metadata = read_metadata(find_model())
    elsewhere = {"model_path": "/opt/elsewhere/organs24.safetensors", "classes": metadata.classes}
    description = describe(model_fingerprint=metadata.fingerprint, **elsewhere)
    assert resolve_model(parse_address(tmp_path), description, None) == find_model()
    with pytest.raises(CheckpointError, match="is gone from"):
        resolve_model(parse_address(tmp_path), describe(model_fingerprint="0" * 32, **elsewhere), None)


def test_a_model_made_small_is_used_like_any_other(cbmir: Cbmir, tmp_path: Path) -> None:
    model_path = make_model(tmp_path / "dense.safetensors", seed=0, width=1024)
    phantoms.write_repository(tmp_path / "repository", images=4, side=64)
    files = split_repository(read_repository(tmp_path / "repository"), seed=0)
    output = tmp_path / "small.safetensors"
    # The outputs of fewer than 20 images, in three views each, lie in fewer than 60 dimensions: nothing is cut off.
    twin, calibration = tmp_path / "twin.safetensors", Calibration(temperature=1.5, threshold=-1.0, images=200)
    weights = load_network(model_path)[0].state_dict()
    save_checkpoint(twin, weights, replace(read_metadata(model_path), calibration=calibration))
    arguments = ("model", "compress", model_path, tmp_path / "repository", "-o", output, "--rank", 60)
    assert cbmir(*arguments, "--calibration", model_path) == 1  # it has none
    assert cbmir(*arguments, "--calibration", twin) == 3  # a file is broken
    assert output.stat().st_size < 8e6 < 5e7 < model_path.stat().st_size
    metadata = read_metadata(output)
    assert metadata.rank == 60
    assert metadata.calibration == calibration
    centroids = read_centroids(output)
    assert centroids is not None
    assert centroids.shape == (6, 1024)
    assert (centroids.astype(float).sum(1) > 0).all()
    assert metadata.measures
    assert metadata.fingerprint != read_metadata(model_path).fingerprint
    assert {name: tensor.shape for name, tensor in load_network(output)[0].state_dict().items()} == {
        name: tensor.shape for name, tensor in load_network(model_path)[0].state_dict().items()
    }
    trained_on = next(file.path for file in files if file.split == "train" and file.label == "eye")
    image = prepared(next(read_frames(trained_on)).pixels)[None]
    dense, small = (Embedder.load(path).embed(image, ("fcl1", "fcl3")) for path in (model_path, output))
    for layer, expected in dense.features.items():
        assert np.abs(small.features[layer] - expected).max() < 0.05 * expected.max(), layer
    for runtime, tolerance in (("openvino", 1e-4), ("openvino-int8", 0.05)):
        features = Embedder.load(output, runtime=runtime).embed(image).features["fcl1"]
        assert np.abs(features - small.features["fcl1"]).max() < tolerance * features.max(), runtime


def test_a_head_is_fitted_indexed_and_searched(
    cbmir: Cbmir, archive: Path, model_path: Path, tmp_path: Path, without_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model, plain = tmp_path / "mine.safetensors", tmp_path / "plain"
    query = archive / "eye" / "eye-001.dcm"
    assert cbmir("index", archive / "eye", "--index", plain, "--model", model_path) == 0
    fit = ("model", "project", model_path, archive, "--output", model, "--dimensions", 12, "--whole")
    assert cbmir(*fit) == 3  # a file is broken
    printed = capsys.readouterr()
    assert "knee-broken.dcm" in printed.err
    assert "fcl1 to 12 values, fitted on" in printed.out
    assert cbmir(*fit) == 2  # nothing is replaced unasked
    assert "is there already" in " ".join(capsys.readouterr().err.split())
    assert cbmir("model", "show", model) == 0
    assert "projected (12 values)" in " ".join(capsys.readouterr().out.split())

    # The copy is the same model: an index that was made without the head goes on with it.
    assert cbmir("index", archive / "eye", "--index", plain, "--model", model) == 0
    assert "4 unchanged" in capsys.readouterr().out
    index = tmp_path / "index"
    assert cbmir("index", archive, "--index", index, "--model", model, "--layers", "projekted") == 2
    assert "did you mean 'projected'?" in " ".join(capsys.readouterr().err.split())
    assert cbmir("index", archive, "--index", index, "--model", model) == 3
    values = json.loads((index / "index.json").read_text())
    assert (values["layers"], values["dimensions"]) == (["projected"], {"projected": 12})
    capsys.readouterr()
    ask = ("search", query, "--index", index, "--no-class-prediction", "--format", "json")
    assert cbmir(*ask, "--exclude-same", "none") == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["hits"][0]["path"] == str(query)
    assert answer["hits"][0]["distance"] == pytest.approx(0, abs=1e-3)
    assert 0.01 < answer["hits"][1]["distance"] < 2.0  # of vectors of length one

    assert cbmir(*fit, "--force", "--layer", "fcl2") == 3  # another head under the same name
    capsys.readouterr()
    for command in (ask, ("index", archive, "--index", index)):
        assert cbmir(*command) == 1
        assert "did not make" in " ".join(capsys.readouterr().err.split())
    head_path(model, "projected").unlink()
    assert cbmir(*ask) == 1
    assert "needs the head 'projected'" in " ".join(capsys.readouterr().err.split())


def test_a_probe_brings_organs_to_a_model(
    cbmir: Cbmir, archive: Path, model_path: Path, tmp_path: Path, without_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, model, plain = tmp_path / "repository", tmp_path / "mine.safetensors", tmp_path / "plain"
    for organ, label in (("eye", "ball"), ("knee", "joint")):
        shutil.copytree(archive / organ, repository / label)
    shutil.copy(model_path, model)
    assert cbmir("index", archive / "eye", "--index", plain, "--model", model) == 0
    fit = ("model", "probe", model, repository)
    assert cbmir(*fit) == 3  # a file is broken
    printed = capsys.readouterr()
    assert "knee-broken.dcm" in printed.err
    assert "too few images for validation" in " ".join(printed.err.split())
    assert "2 classes by fcl1" in printed.out
    assert cbmir(*fit) == 2  # nothing is replaced unasked
    assert "is there already" in " ".join(capsys.readouterr().err.split())
    assert cbmir("model", "show", model) == 0
    assert "ball, joint (by fcl1" in " ".join(capsys.readouterr().out.split())

    # An index that was made without it goes on without it.
    assert cbmir("index", archive / "eye", "--index", plain) == 0
    assert "4 unchanged" in capsys.readouterr().out
    query = archive / "eye" / "eye-001.dcm"
    assert cbmir("search", query, "--index", plain, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["organ"] in read_metadata(model).classes

    index = tmp_path / "index"
    assert cbmir("index", archive / "eye", archive / "knee", "--index", index, "--model", model) == 3
    capsys.readouterr()
    ask = ("search", query, "--index", index, "--format", "json")
    assert cbmir(*ask) == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert (answer["organ"], answer["searched_organs"]) == ("ball", ["ball"])
    assert {hit["organ"] for hit in answer["hits"]} == {"ball"}
    assert cbmir(*ask, "--organ", "eye") == 2
    report = tmp_path / "report"
    whole = ("--search", "exact", "--layers", "fcl1")
    assert cbmir("evaluate", repository, "--model", model, "--report", report, *whole) in {0, 3}
    assert "joint" in (report / "index.html").read_text()

    assert cbmir(*fit, "--force", "--layer", "fcl2") == 3
    capsys.readouterr()
    assert cbmir(*ask) == 1
    assert "did not make" in " ".join(capsys.readouterr().err.split())
    assert cbmir("index", archive / "knee", "--index", index) == 1
    assert "did not make" in " ".join(capsys.readouterr().err.split())
    probe_path(model).unlink()
    assert cbmir(*ask) == 1
    assert "needs the probe of" in " ".join(capsys.readouterr().err.split())
    assert cbmir("index", archive / "eye", archive / "knee", "--index", index, "--reembed", "--model", model) == 3
    assert json.loads((index / "index.json").read_text())["classes"] == list(read_metadata(model).classes)
    capsys.readouterr()
    for arguments, said in (
        (("bundled", archive), "belongs to the program: name a copy of it"),
        ((model_path, archive, "--layer", "fc1"), "did you mean 'fcl1'?"),
    ):
        assert cbmir("model", "probe", *arguments) == 2, arguments
        assert said in " ".join(capsys.readouterr().err.split()), arguments


def test_two_models_share_an_index(
    cbmir: Cbmir,
    archive: Path,
    model_path: Path,
    other_model_path: Path,
    tmp_path: Path,
    without_ray: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair, index, query = tmp_path / "pair", tmp_path / "index", archive / "eye" / "eye-001.dcm"
    both = ("index", archive / "eye", "--index", index, "--model", model_path, "--model", other_model_path)
    assert cbmir(*both) == 2
    assert "join them first, by 'cbmir model join" in " ".join(capsys.readouterr().err.split())
    assert cbmir("model", "join", model_path, "--name", pair) == 2
    assert cbmir("model", "join", model_path, model_path, "--name", pair) == 2
    assert "have one name" in " ".join(capsys.readouterr().err.split())
    assert cbmir("model", "join", model_path, other_model_path, "--name", pair) == 0
    assert "untrained.fcl1 (256 values)" in " ".join(capsys.readouterr().out.split())
    assert cbmir("model", "show", pair) == 0
    assert "joins" in capsys.readouterr().out
    for command in (("export", pair), ("join", pair, model_path, "--name", "x")):
        assert cbmir("model", *command) == 2, command
        assert "joins models" in " ".join(capsys.readouterr().err.split()), command

    assert cbmir("index", archive / "eye", archive / "knee", "--index", index, "--model", pair) == 3
    assert json.loads((index / "index.json").read_text())["layers"] == ["untrained.fcl1", "other.fcl1"]
    capsys.readouterr()
    ask = ("search", query, "--index", index, "--no-class-prediction", "--exclude-same", "none")
    assert cbmir(*ask) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "by the ranks in untrained.fcl1 and other.fcl1" in shown
    assert "rank score" in shown
    assert cbmir(*ask, "--format", "json") == 0
    [fused] = json.loads(capsys.readouterr().out)
    assert fused["layers"] == ["untrained.fcl1", "other.fcl1"]
    best = fused["hits"][0]
    assert (best["path"], best["distance"]) == (str(query), None)
    assert best["score"] == pytest.approx(2 / 60, rel=0.02)
    assert cbmir(*ask, "--layer", "other.fcl1", "--format", "json", "--group-by", "series", "--any-modality") == 0
    [one] = json.loads(capsys.readouterr().out)
    assert (one["layers"], one["hits"][0]["score"]) == (["other.fcl1"], None)
    assert one["hits"][0]["distance"] == pytest.approx(0, abs=0.05)
    assert cbmir("search", "--like", one["hits"][1]["id"], "--index", index, "--sheet", tmp_path / "sheet.png") == 0
    assert cbmir("copy", index, tmp_path / "copy") == 0
    assert cbmir("evaluate", archive, "--model", pair, "--report", tmp_path / "report", "--search", "exact") in {0, 3}
    capsys.readouterr()
    assert cbmir("status", "--index", tmp_path / "copy") == 0

    assert cbmir("model", "project", pair, archive, "--dimensions", 4) in {
        0,
        3,
    }  # a broken file may be in the test part
    assert cbmir("model", "probe", pair, archive) == 3
    assert cbmir("index", archive / "eye", "--index", tmp_path / "one-vector", "--model", pair) == 0
    description = json.loads((tmp_path / "one-vector" / "index.json").read_text())
    assert (description["layers"], description["dimensions"]) == (["projected"], {"projected": 4})
    capsys.readouterr()
    assert cbmir(*ask[:2], "--index", tmp_path / "one-vector", "--exclude-same", "none", "--format", "json") == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert (answer["layers"], answer["hits"][0]["path"]) == (["projected"], str(query))
    assert answer["hits"][0]["distance"] == pytest.approx(0, abs=0.01)


def test_what_cannot_be_a_head_is_one_sentence(
    cbmir: Cbmir, archive: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (("bundled", archive), "belongs to the program: name a copy of it"),
        ((model_path, archive, "--name", "fcl2"), "like no layer"),
        ((model_path, archive, "--name", "../x"), "small letters"),
        ((model_path, archive, "--layer", "fc1"), "did you mean 'fcl1'?"),
        ((model_path, archive, "--dimensions", 500), "give from 1 to"),
    ):
        assert cbmir("model", "project", *arguments) == 2, arguments
        assert said in " ".join(capsys.readouterr().err.split()), arguments


def test_an_encoder_is_brought_in_indexed_and_searched(
    cbmir: Cbmir,
    archive: Path,
    tmp_path: Path,
    without_ray: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The paper's network leaves as ONNX, and comes back as somebody else's, without classes."""
    if not find_spec("onnxscript"):
        pytest.skip("needs the extra onnx")
    file, folder, index = tmp_path / "dcnn.onnx", tmp_path / "mine", tmp_path / "index"
    small = make_model(tmp_path / "small.safetensors", seed=0)
    assert cbmir("model", "export", small, "--output", file) == 0
    come = ("model", "import", file, "--name", folder, "--licence", "MIT")
    assert cbmir(*come) == 2
    assert "give --mean and --std" in " ".join(capsys.readouterr().err.split())
    scaled = ("--mean", 0.5, "--std", 0.25, "--resize", 256)
    assert cbmir(*come, *scaled, "--cosine", "--dot") == 2
    assert "exclude each other" in " ".join(capsys.readouterr().err.split())
    dotted = (*come[:-3], tmp_path / "dotted", *scaled, "--dot")
    assert cbmir(*dotted) == 0
    assert "compared by dot products" in capsys.readouterr().out
    make = ("index", archive / "eye", "--index", tmp_path / "dots", "--runtime", "torch")
    assert cbmir(*make, "--model", tmp_path / "dotted") == 0
    capsys.readouterr()
    ask = ("search", archive / "eye" / "eye-001.dcm", "--index", tmp_path / "dots", "--exclude-same", "none")
    assert cbmir(*ask) == 0
    assert "dot product" in capsys.readouterr().out
    assert cbmir(*ask, "--format", "json") == 0
    scores = [hit["score"] for hit in json.loads(capsys.readouterr().out)[0]["hits"]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert cbmir(*come, *scaled, "--mean", "half") == 2
    assert "give numbers with commas" in " ".join(capsys.readouterr().err.split())
    assert cbmir(*come, *scaled) == 0
    assert f"pooled, {NARROW} values" in capsys.readouterr().out
    assert cbmir(*come, *scaled) == 2  # it is there
    assert cbmir("model", "show", folder) == 0
    assert "licence      MIT" in capsys.readouterr().out

    assert cbmir("index", archive, "--index", index, "--model", folder, "--labels", "folder", "--runtime", "torch") == 3
    capsys.readouterr()
    query = archive / "eye" / "eye-001.dcm"
    assert cbmir("search", query, "--index", index, "--exclude-same", "none", "--top", 3) == 0
    shown = capsys.readouterr().out
    assert "no class predicted, as the model tells none apart" in shown
    assert "searched in the whole index" in shown
    assert "organ" not in shown
    assert str(query) in shown
    assert cbmir("search", query, "--index", index, "--organ", "eye") == 2
    assert "tells no classes apart" in " ".join(capsys.readouterr().err.split())
    assert cbmir("search", query, "--index", index, "--where", "label=eye", "--format", "csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4  # the other three eyes
    assert cbmir("status", "--index", index) == 0
    assert cbmir("inspect", query, "--model", folder) == 0
    assert cbmir("index", archive, "--index", index, "--runtime", "openvino") == 2
    assert "is run as what it is" in " ".join(capsys.readouterr().err.split())
    for command, said in (
        (("train", archive, "--from", folder, "--output", tmp_path / "own"), "is another program's network"),
        (("model", "compress", folder, archive, "--output", tmp_path / "less"), "is another program's network"),
        (("model", "export", folder, "--output", tmp_path / "again"), "holds an ONNX file already"),
    ):
        assert cbmir(*command) in {1, 2}, command
        assert said in " ".join(capsys.readouterr().err.split()), command

    report = tmp_path / "report"
    compare = ("evaluate", archive, "--model", folder, "--model", small, "--report", report)
    assert cbmir(*compare) in {0, 3}  # a broken file may lie in the test part
    shown = capsys.readouterr().out
    assert "ranks fused" in shown
    record = json.loads((report / "report.json").read_text())
    layers = [(row["model"], row["layer"]) for row in record["rows"]]
    assert layers[:2] == [("mine", "pooled"), ("small", "fcl1")]
    assert record["rows"][0]["mean_average_precision"] == pytest.approx(record["rows"][1]["mean_average_precision"])
    for name in ("index.html", "report.md"):
        assert "ranks fused" in (report / name).read_text()
    assert cbmir(*compare) == 2  # the report is there
    assert cbmir(*compare, "--force", "--layers", "fc1") == 2
    assert "did you mean 'fcl1'?" in " ".join(capsys.readouterr().err.split())
    twin = tmp_path / "elsewhere" / "small.safetensors"
    twin.parent.mkdir()
    shutil.copy(small, twin)
    opened = tmp_path / "opened"
    monkeypatch.setenv("BROWSER", f"sh -c 'echo \"$0\" > {opened}' %s")
    whole = ("--layers", "fcl1", "--force", "--report", report, "--open")
    assert cbmir("evaluate", archive, "--model", small, "--model", twin, *whole) in {0, 3}
    record = json.loads((report / "report.json").read_text())
    assert [row["model"] for row in record["rows"]][:2] == [str(small), str(twin)]
    assert opened.read_text().strip() == (report / "index.html").as_uri()
    assert cbmir("evaluate", archive, "--model", folder, "--report", tmp_path / "alone") in {0, 3}

    assert cbmir("model", "project", folder, archive, "--dimensions", 8, "--whole") == 3
    assert cbmir("index", archive, "--index", tmp_path / "small", "--model", folder, "--runtime", "torch") == 3
    values = json.loads((tmp_path / "small" / "index.json").read_text())
    assert (values["layers"], values["classes"]) == (["projected"], [])
    assert cbmir("copy", tmp_path / "small", tmp_path / "copy") == 0
    assert cbmir("search", query, "--index", tmp_path / "copy", "--sheet", tmp_path / "sheet.png") == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_an_encoder_is_tuned(
    cbmir: Cbmir, archive: Path, tmp_path: Path, without_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, tuned, index = timm_encoder(tmp_path / "mine"), tmp_path / "tuned", tmp_path / "index"
    tune = ("model", "tune", mine, archive, "--name", tuned, "--updates", 2, "--dimensions", 8, "--workers", 0)
    assert cbmir(*tune) == 0
    printed = capsys.readouterr().out
    assert "images of 6 labels" in printed
    assert "projected, 8 values" in printed
    assert cbmir(*tune) == 2
    assert "is there already" in capsys.readouterr().err
    assert cbmir("model", "tune", "organs24", archive, "--name", tmp_path / "other") == 2
    assert "is no encoder" in capsys.readouterr().err
    assert cbmir("index", archive / "eye", "--index", index, "--model", tuned, "--runtime", "torch") == 0
    assert json.loads((index / "index.json").read_text())["dimensions"] == {"projected": 8}
