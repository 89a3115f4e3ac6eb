"""The generative prior: paired scalp and intracranial recordings."""
