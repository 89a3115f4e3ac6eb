from .calibration import plot_calibration
from .comparison import plot_comparison
from .connectivity import plot_connectivity
from .contacts import plot_contacts, plot_contacts_3d
from .lateralization import plot_lateralization
from .report import make_report
from .spectra import plot_spectra
from .traces import plot_virtual
from .view.page import make_view

__all__ = [
    "make_report",
    "make_view",
    "plot_calibration",
    "plot_comparison",
    "plot_connectivity",
    "plot_contacts",
    "plot_contacts_3d",
    "plot_lateralization",
    "plot_spectra",
    "plot_virtual",
]
