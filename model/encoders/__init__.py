"""Other people's networks as encoders: brought in from a file or folder, and run like the network of the paper.

Imports :mod:`model.images`, and of :mod:`model.network` what describes a model. ONNX Runtime, timm and transformers are
extras, imported by the one file that needs them.
"""
