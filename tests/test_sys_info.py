"""What a bug report needs."""

import io
import sys

import mne_neuroflow


def test_sys_info_names_versions_and_machine(capsys):
    mne_neuroflow.sys_info()
    printed = capsys.readouterr().out
    for word in ("mne_neuroflow:", "mne:", "torch:", "Python:", "GPU:", "Weights:"):
        assert word in printed
    assert mne_neuroflow.__version__ in printed
    assert sys.version.split()[0] in printed
    text = io.StringIO()
    mne_neuroflow.sys_info(text)
    assert text.getvalue() == printed
    assert capsys.readouterr().out == ""


def test_sys_info_survives_a_package_that_is_missing(monkeypatch, capsys):
    needs = ["no-such-package>=1", "also-none; extra == 'dev'"]
    monkeypatch.setattr("mne_neuroflow._sys_info.requires", lambda name: needs)
    mne_neuroflow.sys_info()
    printed = capsys.readouterr().out
    assert "no-such-package:" in printed and "not installed" in printed
    assert "also-none" not in printed
