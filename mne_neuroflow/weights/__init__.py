"""Models by name: files, hashes, downloads and the model card.

This package reads and writes weights files. It does not depend on how a model is
trained or used.
"""
