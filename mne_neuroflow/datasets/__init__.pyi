from . import ccepcoreg, localize_mi, simulated_cohort, verbal_wm
from .demo import load_demo

__all__ = [
    "ccepcoreg",
    "load_demo",
    "localize_mi",
    "simulated_cohort",
    "verbal_wm",
]
