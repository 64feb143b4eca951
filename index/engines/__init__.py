"""The engines behind one interface: Qdrant Edge in a folder, and a collection of a Qdrant server.

Nothing outside knows their libraries; of a server only :mod:`index.engines.server` and what it uses know qdrant-client.
"""
