"""A stand-in for a Qdrant server: its gRPC calls as far as cbmir uses them, with Qdrant Edge's shards behind them.

It is a tool of the tests, to injure connections and to stop the server where a real one is not at hand: one node,
without replication, REST or snapshots. ``python -m tests.support.stand_in FOLDER`` is one in a process of its own.
"""
