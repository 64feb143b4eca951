"""The server engine: a collection of a Qdrant server or cluster, over gRPC. The only place that knows qdrant-client."""
