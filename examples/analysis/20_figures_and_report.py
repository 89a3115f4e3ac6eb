"""
Figures and a report
====================

Spectra, lateralization and connectivity of virtual contacts with their intervals, and
all of it in one HTML file.
"""

# %%
# All figures of :mod:`mne_neuroflow.viz` start from draws. They return Matplotlib
# figures, and say in their titles that they show predictions.
import tempfile
from pathlib import Path

import mne_neuroflow
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.viz import plot_connectivity, plot_lateralization, plot_spectra

raw = load_demo(verbose=False)
draws = mne_neuroflow.sample_ieeg(
    raw, 30, tmin=20, tmax=32, contacts="mtl-core", random_state=0, verbose=False
)

# sphinx_gallery_thumbnail_number = -1

# %%
# Spectra
# -------
# The spectrum of each draw is computed apart.
plot_spectra(draws)

# %%
# Connectivity
# ------------
# Coherence, imaginary coherence or phase locking by mne-connectivity.
plot_connectivity(draws, band="alpha")

# %%
# A report
# --------
# :func:`mne_neuroflow.make_report` puts the recording's checks, observability, traces,
# spectra, connectivity, lateralization and the provenance into one :class:`mne.Report`.
# ``mne-neuroflow report recording.edf report.html`` does the same on the command line.
report = mne_neuroflow.make_report(
    raw,
    contacts="mtl-core",
    n_draws=20,
    tmin=20,
    tmax=26,
    random_state=0,
    verbose=False,
)
fname = Path(tempfile.mkdtemp()) / "report.html"
report.save(fname, open_browser=False, verbose=False)
print(f"{fname.name}: {fname.stat().st_size / 1e6:.1f} MB, {len(report)} sections")

# %%
# Lateralization
# --------------
# By how much the left side has more power than the right, per structure and band, with
# the interval over draws: filled where it leaves out zero.
plot_lateralization(draws, "mtl-core")
