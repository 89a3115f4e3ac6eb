"""Training of the flow on simulated or real pairs."""
