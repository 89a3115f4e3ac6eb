"""Bundled recordings."""
