"""
Figures and a report
====================

This example plots spectra, lateralization and connectivity of virtual contacts with
their intervals, and writes a report as an HTML file.
"""

# %%
# The functions of :mod:`mne_neuroflow.viz` take draws and return Matplotlib figures.
# The titles say that the signals are predictions.
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
# The spectrum of each draw is computed separately.
plot_spectra(draws)

# %%
# Connectivity
# ------------
# mne-connectivity computes coherence, imaginary coherence or phase locking.
plot_connectivity(draws, band="alpha")

# %%
# A report
# --------
# :func:`mne_neuroflow.make_report` makes a :class:`mne.Report` with the checks of the
# recording, observability, traces, spectra, connectivity, lateralization and
# provenance. ``mne-neuroflow report recording.edf report.html`` does the same on the
# command line.
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
# The figure shows the difference in power between left and right for each structure and
# band, with intervals over draws. Symbols are filled where the 90 % interval does not
# contain zero.
plot_lateralization(draws, "mtl-core")
