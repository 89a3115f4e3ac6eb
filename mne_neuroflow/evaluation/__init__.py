"""Scores of draws against the truth."""
