"""The conditional normalizing flow, in torch alone.

This package works on tensors. It does not import MNE-Python, and it does not depend on
where the conditioning inputs come from or on how the draws are used.
"""
