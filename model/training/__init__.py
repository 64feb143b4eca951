"""Training: labelled repositories, the loop with its recipes, calibration, compression, measures and cross-validation.

Imports :mod:`model.images` and :mod:`model.network`.
"""
