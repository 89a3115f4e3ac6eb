"""The conditional normalizing flow, in torch alone."""
