from . import simulated_cohort, verbal_wm
from .demo import load_demo

__all__ = ["load_demo", "simulated_cohort", "verbal_wm"]
