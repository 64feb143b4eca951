"""The figures that the paper prints (arXiv 1703.08472, sections 4.3-4.4), to be shown beside ours; on its own data."""

from __future__ import annotations

from typing import Final

ACCURACY: Final = 0.9977
AVERAGE_PRECISION: Final = 0.9976
AVERAGE_RECALL: Final = 0.9977
F1: Final = 0.9976

MEAN_AVERAGE_PRECISION: Final = {False: 0.53, True: 0.69}
"""Without and with class prediction, of FCL1, its best layer; by a definition that it does not give."""

CLASSIFICATION_PEER: Final = ("two-stage DCNN on local patches, CT, 12 classes, 7,489 images", 0.9843, 0.9728, 0.9785)
"""What it compares its AP, AR and F1 with."""

RETRIEVAL_PEERS: Final = (
    ("LBP + SVM + auto-encoder, X-ray, 57 classes, 14,410 images", 0.86),
    ("auto-regressive model + SVM tree, 83 classes, 6,400 images", 0.576),
)
"""What it compares its mean average precision with."""
