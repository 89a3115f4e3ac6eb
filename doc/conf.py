"""Configuration of the documentation, which is built without any network."""

import os
import sys
from pathlib import Path

import mne_neuroflow

sys.path.insert(0, str(Path(__file__).parent / "sphinxext"))
os.environ["MNE_TQDM"] = "off"  # a page shows every step of a progress bar

project = "mne_neuroflow"
author = "the mne_neuroflow developers"
project_copyright = f"2026, {author}. BSD-3-Clause"
release = version = mne_neuroflow.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "cohort_columns",
    "figures",
    "mathml",
    "model_card",
    "names_of_others",
    "news",
    "offline",
]
exclude_patterns = ["_build", "_generated", "changes", "decisions"]
default_role = "py:obj"

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_aliases = {
    "DigMontage": "mne.channels.DigMontage",
    "Epochs": "mne.Epochs",
    "Info": "mne.Info",
    "Raw": "mne.io.Raw",
    "Transform": "mne.transforms.Transform",
    "Report": "mne.Report",
    "DataArray": "xarray.DataArray",
    "DataFrame": "pandas.DataFrame",
    "Series": "pandas.Series",
    "Generator": "numpy.random.Generator",
    "ndarray": "numpy.ndarray",
    "Figure": "matplotlib.figure.Figure",
    "Colormap": "matplotlib.colors.Colormap",
    "NeuroFlow": "mne_neuroflow.NeuroFlow",
    "path-like": "pathlib.Path",
    "generator": "generator",  # of potentials in the brain, not Python's
}
numpydoc_xref_ignore = "all"

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"
bibtex_reference_style = "author_year"

copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "subsection_order": [
        "../examples/first_steps",
        "../examples/analysis",
        "../examples/truth",
        "../examples/own_data",
    ],
    "backreferences_dir": "_generated/backreferences",
    "doc_module": ("mne_neuroflow",),
    "reference_url": {"mne_neuroflow": None},
    "capture_repr": ("_repr_html_",),
    "matplotlib_animations": False,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"mne_neuroflow {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "mne_neuroflow"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": ["not_a_recording"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "whats_new": [], "install": [], "glossary": []}
templates_path = ["templates"]
