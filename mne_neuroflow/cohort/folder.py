"""The folder of results: where things are, and how they get there whole."""

import json
import re
from pathlib import Path

import pandas as pd

from .. import __version__
from .._files import written_whole
from ..scores.signals import BANDS
from .features import COLUMNS, FEATURES

_README = """Features of virtual intracranial EEG, predicted from scalp EEG.

Nothing in this dataset was recorded inside a head. Every value is a prediction for
research, and must not be used for diagnosis, for planning an operation or for any
other decision about a patient. Rows with scalp = 'shifted' are a control: an effect
that they show as well does not come from the pattern over the scalp.

desc-virtual_features.json tells what the columns of the tables are; status.tsv, what
became of each recording. All tables together, in pandas, polars and DuckDB, after
the command's group level:

    pandas.read_parquet("group/features")
    polars.scan_parquet("group/features/**/*.parquet")
    duckdb.sql("select * from read_parquet('group/features/**/*.parquet')")
"""
STATES = ("done", "failed", "waiting")
#: What status.tsv holds.
STATUS = (
    "recording",
    "participant",
    "session",
    "task",
    "run",
    "state",
    "reason",
    "duration",
    "seconds",
    "peak_memory",
    "finished",
    "file",
    "fingerprint",
)


class Folder:
    """The derivative dataset that a cohort is written to.

    Parameters
    ----------
    root : path-like
        The folder; it need not exist.
    """

    def __init__(self, root):
        self.root = Path(root)

    def table(self, found, what="features", ending=".parquet"):
        """Return where a file of a recording belongs.

        Parameters
        ----------
        found : Found
            The recording.
        what : str
            The end of its name.
        ending : str
            Its format.

        Returns
        -------
        fname : Path
            By the rules of BIDS derivatives.
        """
        folder = self.root / f"sub-{found.entity('subject')}"
        if found.entity("session"):
            folder = folder / f"ses-{found.entity('session')}"
        name = re.sub("_desc-[^_]+", "", found.name)
        return folder / "ieeg" / f"{name}_desc-virtual_{what}{ending}"

    def create(self, source, settings):
        """Write what the dataset is, unless it is there.

        Parameters
        ----------
        source : path-like
            The dataset of recordings.
        settings : dict
            What was asked for.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        about = self.root / "dataset_description.json"
        if about.is_file() and '"derivative"' not in about.read_text("utf-8"):
            raise ValueError(
                f"{self.root} is a dataset of recordings. Write features to a folder "
                "of their own, for example its derivatives/mne_neuroflow."
            )
        if not about.is_file() and any(self.root.iterdir()):
            raise ValueError(f"{self.root} is neither empty nor a BIDS dataset.")
        write_json(
            about,
            {
                "Name": "Features of virtual intracranial EEG: predicted, not recorded",
                "BIDSVersion": "1.10.0",
                "DatasetType": "derivative",
                "GeneratedBy": [
                    {
                        "Name": "mne_neuroflow",
                        "Version": __version__,
                        "Description": "Options: " + json.dumps(settings),
                    }
                ],
                "SourceDatasets": [{"URL": Path(source).absolute().as_uri()}],
            },
        )
        features = {name: f"{what} ({unit})" for name, (what, unit) in FEATURES.items()}
        write_json(
            self.root / "desc-virtual_features.json",
            {name: {"Description": what} for name, what in COLUMNS.items()}
            | {"Features": features}
            | {"Bands": {name: f"{a:g}-{b:g} Hz" for name, (a, b) in BANDS.items()}},
        )
        write_text(self.root / "README", _README)
        participants = Path(source) / "participants.tsv"
        if participants.is_file():
            text = participants.read_text("utf-8-sig")
            write_text(self.root / "participants.tsv", text)

    def record(self, row):
        """Keep what became of a recording.

        Parameters
        ----------
        row : dict
            With the keys :data:`STATUS`.
        """
        write_json(self._row_file(row["recording"]), row)

    def recorded(self, name):
        """Return what became of a recording in the last run that came to it.

        Parameters
        ----------
        name : str
            Of the recording.

        Returns
        -------
        row : dict
            Empty where no run has.
        """
        try:
            return json.loads(self._row_file(name).read_text("utf-8"))
        except FileNotFoundError:
            return {}

    def all_recorded(self):
        """Return what became of all recordings of all runs.

        Returns
        -------
        rows : dict of str to dict
            By name.
        """
        names = sorted(file.stem for file in (self.root / "status").glob("*.json"))
        return {name: self.recorded(name) for name in names}

    def write_status(self, rows):
        """Write the table of what became of each recording.

        Parameters
        ----------
        rows : dict of str to dict
            By name.

        Returns
        -------
        status : DataFrame
            The same as a table.
        """
        status = pd.DataFrame([rows[name] for name in sorted(rows)], columns=STATUS)
        with written_whole(self.root / "status.tsv") as fname:
            status.to_csv(fname, sep="\t", index=False, na_rep="n/a")
        return status

    def _row_file(self, name):
        return self.root / "status" / f"{name}.json"


def write_text(fname, text):
    """Write a text file whole.

    Parameters
    ----------
    fname : Path
        The file.
    text : str
        What to write.
    """
    fname.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(fname) as part:
        part.write_text(text, "utf-8")


def write_json(fname, content):
    """Write a JSON file whole.

    Parameters
    ----------
    fname : Path
        The file.
    content : dict
        What to write.
    """
    write_text(fname, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
