"""Models by name: files, hashes, downloads and the model card.

This room knows what is in a weights file; it never knows how a model is trained, nor
who predicts with it.
"""
