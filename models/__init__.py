"""Tensors and arrays, and the model folder. Nothing here knows of media."""
