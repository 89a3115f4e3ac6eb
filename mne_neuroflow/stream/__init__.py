"""Prediction of virtual contacts during a recording."""

from .outgoing import Mark
from .predictor import HOP, LONGEST_GAP, StreamPredictor

__all__ = ["HOP", "LONGEST_GAP", "Mark", "StreamPredictor"]
