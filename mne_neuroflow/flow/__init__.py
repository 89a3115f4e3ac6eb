"""The conditional normalizing flow, in torch alone.

This room knows tensors and never MNE: neither where conditioning inputs come from nor
what becomes of the draws.
"""
