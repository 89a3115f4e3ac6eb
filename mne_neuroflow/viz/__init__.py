"""Figures of virtual contacts, their intervals and what they compare with."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "traces": ["plot_virtual"],
        "contacts": ["plot_contacts", "plot_contacts_3d"],
        "calibration": ["plot_calibration"],
        "spectra": ["plot_spectra"],
        "connectivity": ["plot_connectivity"],
        "lateralization": ["plot_lateralization"],
        "comparison": ["plot_comparison"],
        "report": ["make_report"],
    },
)
