"""The network: its architecture, its checkpoints, and what computes it (torch, OpenVINO) for an embedder.

Imports nothing of ``model`` but :mod:`model.errors`. torch takes 2 s to import, so what needs none (layers, runtimes,
metadata, the bundled models) stands apart from what does.
"""
