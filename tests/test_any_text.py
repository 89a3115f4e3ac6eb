"""Parsers on any text: an answer or one error in words, whatever is put in."""

import json
import warnings

import pytest

from mne_neuroflow.export import edf_labels
from mne_neuroflow.head.contact_file import is_mni, read_contact_file
from mne_neuroflow.head.contacts import derived_from
from mne_neuroflow.scalp.montages import template_positions
from mne_neuroflow.scalp.names import read_names

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# Quick, the same on every machine, and without files in the folder.
few = hypothesis.settings(
    max_examples=60, deadline=None, derandomize=True, database=None
)
WORDS = "EEG POL Chan Fp1 C3 t7 A1 Cz Fp1' - -- . ' _ Ref LE 0 1 001 (A1+A2)/2".split()
pieces = st.sampled_from([*WORDS, "\u00a0", "\u982d"])
names = st.lists(st.lists(pieces, max_size=5).map(" ".join) | st.text(max_size=12))


@few
@hypothesis.given(names)
def test_names(some):
    """As many places as names, all of the template; order does not matter."""
    template = template_positions()
    read = read_names(some, template)
    lengths = {len(read.places), len(read.references), len(read.bipolar)}
    assert lengths == {len(some)}
    assert {place for place in read.places if place} <= set(template)
    assert read_names(some[::-1], template).places == read.places[::-1]
    for name in some:
        derived_from(name, some)


@few
@hypothesis.given(names)
def test_labels(some):
    labels = edf_labels(some)
    assert len(set(labels)) == len(some)
    assert all(0 < len(label) <= 16 and label.isascii() for label in labels)


cell = st.sampled_from(["name", "x", "y", "z", "-27", "n/a", "1,5", "A1", "\t", "\n"])
table = st.lists(cell, max_size=30).map("\t".join).map(str.encode) | st.binary()
known = {"iEEGCoordinateSystem": "MNI152Lin", "iEEGCoordinateUnits": "mm"}
anything = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(list(known)) | st.text(max_size=5), inner)
    ),
    max_leaves=6,
)
system = anything.map(json.dumps).map(str.encode) | st.binary(max_size=50)


@few
@hypothesis.given(table, system | st.just(json.dumps(known).encode()))
def test_files_of_contacts(tmp_path_factory, content, sidecar):
    folder = tmp_path_factory.mktemp("contacts")
    file = folder / "sub-01_electrodes.tsv"
    file.write_bytes(content)
    (folder / "sub-01_coordsystem.json").write_bytes(sidecar)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for options in ({}, {"space": "MNI152", "units": "mm"}):
            try:
                found, rr = read_contact_file(file, **options)
            except ValueError as err:
                assert str(folder) in str(err)
                assert type(err) is ValueError
            else:
                assert rr.shape == (len(found), 3)


@few
@hypothesis.given(st.text())
def test_spaces(text):
    assert is_mni(text) in (True, False)
