"""The collection that holds an index: how it is made, described and found."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qdrant_client import QdrantClient, models
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from index.engines.connection import already_exists, is_missing
from index.engines.layout import Layout
from index.home.description import description_from
from index.schema import KEYWORDS, SCHEMA_VERSION, Description, Quantization
from model.errors import NotAnIndexError, NothingThereError, VectorIndexError

INDEXING_THRESHOLD_KB = 20_000
"""Size of unindexed vectors from which the graph is built over them."""

_VISIBLE_SECONDS = 10.0
"""Time within which a collection that another process has made is known to every node of a cluster."""

_KEY = "cbmir"


def make_collection(client: QdrantClient, name: str, description: Description, layout: Layout) -> None:
    """Make the collection with its keyword indexes, unless another process has; safe from many at once.

    The keyword indexes come before the points: a graph that was built without them loses recall under a filter.
    """
    vectors = {
        layer: models.VectorParams(
            size=values,
            distance=models.Distance.DOT if layer in description.dot_layers else models.Distance.EUCLID,
            datatype=models.Datatype.FLOAT16,
            memory=models.Memory.COLD,
            on_disk=True,  # the same in the words of servers before 1.19, here and below
        )
        for layer, values in description.dimensions.items()
    }
    try:
        client.create_collection(
            name,
            vectors_config=vectors,
            shard_number=layout.shards,
            replication_factor=layout.replicas,
            write_consistency_factor=layout.write_consistency,
            quantization_config=_quantization(description.quantization),
            # A filter without a keyword index would walk every point of an archive of millions.
            strict_mode_config=models.StrictModeConfig(
                enabled=True, unindexed_filtering_retrieve=False, unindexed_filtering_update=False
            ),
            metadata={_KEY: _plain(description)},
        )
    except Exception as error:
        if not already_exists(error):
            raise
        # Before anything is changed that may be another program's.
        visible = Retrying(
            retry=retry_if_exception(lambda error: error.__cause__ is not None and is_missing(error.__cause__)),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(_VISIBLE_SECONDS),
            reraise=True,
        )
        visible(read_collection, client, name, name)
    index_keywords(client, name)


def index_keywords(client: QdrantClient, name: str) -> None:
    """Make a collection's keyword indexes, but for those that it has."""
    for keyword in KEYWORDS:
        client.create_payload_index(name, keyword, models.PayloadSchemaType.KEYWORD, wait=True)


def read_collection(client: QdrantClient, name: str, address: str) -> Description:
    """What the collection says of itself.

    Raises:
        NothingThereError: it does not exist.
        NotAnIndexError: it is no index of this program.
        VectorIndexError: it has another schema version.
    """
    try:
        metadata = client.get_collection(name).config.metadata or {}
    except Exception as error:
        if is_missing(error):
            raise NothingThereError(
                f"{address} does not exist: make an index with 'cbmir index ARCHIVE --index {address}'"
            ) from error
        raise
    values: Any = metadata.get(_KEY)
    if not isinstance(values, dict):
        raise NotAnIndexError(f"{address} is a collection, but no index of cbmir: name another collection")
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise VectorIndexError(f"{address} has schema version {version}, this program {SCHEMA_VERSION}: index anew")
    try:
        return description_from(values)
    except (TypeError, KeyError) as error:
        raise VectorIndexError(f"{address} describes itself wrongly ({error}): restore it, or index anew") from error


def write_description(client: QdrantClient, name: str, description: Description) -> None:
    """Replace what the collection says of itself."""
    client.update_collection(name, metadata={_KEY: _plain(description)})


def defer_graph(client: QdrantClient, name: str) -> None:
    """Build no graph while points are loaded: it would be built again and again."""
    _set_threshold(client, name, 0)


def allow_graph(client: QdrantClient, name: str) -> None:
    """Let the server build the graph over everything that is in no graph yet."""
    _set_threshold(client, name, INDEXING_THRESHOLD_KB)


def _set_threshold(client: QdrantClient, name: str, kilobytes: int) -> None:
    """Set it where it is another one, or where the optimizers wait for an update since the server was restarted.

    Any such update, also of the same value, cuts the builds off that are under way, and they begin anew.
    """
    info = client.get_collection(name)
    waiting = info.status == models.CollectionStatus.GREY and kilobytes > 0
    if info.config.optimizer_config.indexing_threshold != kilobytes or waiting:
        client.update_collection(name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=kilobytes))


def _plain(description: Description) -> dict[str, Any]:
    values = asdict(description)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _quantization(name: Quantization) -> models.QuantizationConfig | None:
    match name:
        case "turbo4":
            bits = models.TurboQuantBitSize.BITS4
            return models.TurboQuantization(
                turbo=models.TurboQuantQuantizationConfig(bits=bits, memory=models.Memory.PINNED, always_ram=True)
            )
        case "int8":
            return models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(
                    type=models.ScalarType.INT8, memory=models.Memory.PINNED, always_ram=True
                )
            )
        case "none":
            return None
