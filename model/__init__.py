"""The network and everything that turns an image file into probabilities and features.

Holds the CNN, image reading and preprocessing, labelled repositories, training, checkpoints and the embedder.
Imports nothing of ``index``, ``workers`` or ``cli``; knows neither Ray nor Qdrant; never prints.
"""
