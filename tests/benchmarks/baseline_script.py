"""What a competent user would write in an afternoon: pydicom, a DataLoader, the network, ``upload_points``.

The baseline of ``tests.benchmarks.scripted``; nothing else uses it. Apart from the network it shares no code with this
project.
"""

from __future__ import annotations

import argparse
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import torch
from PIL import Image
from pydicom.pixels.processing import apply_voi_lut
from qdrant_client import QdrantClient, models
from torch.utils.data import DataLoader, Dataset

from model.network.checkpoint import load_network


class Archive(Dataset[tuple[torch.Tensor, int]]):
    """The files of a folder as network inputs."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        ds = pydicom.dcmread(self.files[number])
        pixels = apply_voi_lut(ds.pixel_array, ds).astype(np.float32)
        if ds.PhotometricInterpretation == "MONOCHROME1":
            pixels = pixels.max() - pixels
        pixels = (pixels - pixels.min()) / max(1e-6, float(pixels.max() - pixels.min())) * 255
        picture = Image.fromarray(pixels.astype(np.uint8)).resize((256, 256)).crop((16, 16, 240, 240))
        return (torch.from_numpy(np.array(picture)).float()[None] / 255 - 0.5) / 0.25, number


@torch.inference_mode()
def points(files: list[Path], model: Path, batch_size: int) -> Iterator[models.PointStruct]:
    """Embed every file."""
    network, metadata = load_network(model)
    network.eval()
    loader = DataLoader(Archive(files), batch_size=batch_size, num_workers=os.cpu_count() or 1)
    for images, numbers in loader:
        logits, features = network.features(images, ("fcl1",))
        organs = logits.argmax(1)
        for number, organ, feature in zip(numbers.tolist(), organs.tolist(), features["fcl1"].numpy(), strict=True):
            path = str(files[number])
            payload = {"organ": metadata.classes[organ], "path": path}
            yield models.PointStruct(
                id=str(uuid.uuid5(uuid.NAMESPACE_URL, path)), vector=feature.tolist(), payload=payload
            )


def main() -> None:
    """Embed a folder into a collection of a Qdrant server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("archive", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--grpc-port", type=int, default=6334)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.archive.rglob("*") if path.is_file())
    client = QdrantClient(arguments.host, grpc_port=arguments.grpc_port, prefer_grpc=True, check_compatibility=False)
    client.create_collection("images", models.VectorParams(size=4096, distance=models.Distance.EUCLID))
    client.upload_points("images", points(files, arguments.model, arguments.batch_size), batch_size=64, wait=True)
    client.close()


if __name__ == "__main__":
    main()
