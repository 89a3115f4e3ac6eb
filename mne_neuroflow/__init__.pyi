from . import datasets, viz
from ._sys_info import sys_info
from .bipolar import make_bipolar
from .cohort.group import analyze_cohort
from .cohort.run import predict_cohort
from .compare import compare_sources, contacts_to_stc
from .estimator import NeuroFlow
from .export import export_edf, write_bids
from .head.contacts import make_contacts, read_contacts
from .head.seeg_forward import make_seeg_forward
from .predict import (
    observability,
    predict_ieeg,
    predict_quantiles,
    sample_ieeg,
    score_ieeg,
)
from .simulate import simulate_pair
from .viz.report import make_report
from .weights.fetch import fetch_model

__all__ = [
    "NeuroFlow",
    "analyze_cohort",
    "compare_sources",
    "contacts_to_stc",
    "datasets",
    "export_edf",
    "fetch_model",
    "make_bipolar",
    "make_contacts",
    "make_report",
    "make_seeg_forward",
    "observability",
    "predict_cohort",
    "predict_ieeg",
    "predict_quantiles",
    "read_contacts",
    "sample_ieeg",
    "score_ieeg",
    "simulate_pair",
    "sys_info",
    "viz",
    "write_bids",
]
__version__: str
