"""Virtual intracranial EEG from scalp EEG, as ordinary MNE objects.

Everything this package returns is a prediction, never a recording.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

# torch takes seconds to import and MNE half a second, so that every public
# name is resolved only when it is first used.
__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "predict": ["predict_ieeg", "sample_ieeg", "score_ieeg", "observability"],
        "compare": ["compare_sources", "contacts_to_stc"],
        "export": ["export_edf", "write_bids"],
        "estimator": ["NeuroFlow"],
        "head.contacts": ["make_contacts", "read_contacts"],
        "head.seeg_forward": ["make_seeg_forward"],
        "simulate": ["simulate_pair"],
        "viz.report": ["make_report"],
        "weights.fetch": ["fetch_model"],
        "_sys_info": ["sys_info"],
    },
)
