"""The head: surfaces, lead fields, contacts and the Gaussian spatial posterior.

This package holds anatomy and physics, in NumPy. It does not import torch or the flow.
"""
