"""The folder of results: names of files, and complete writing of files."""

import json
from pathlib import Path

import pandas as pd

from .. import __version__
from .._files import DRAFT, written_whole
from ..head.contacts import contact_positions, contact_structures
from ..scores.signals import BANDS
from .features import COLUMNS, FEATURES, UNITS

_README = """Features of virtual intracranial EEG, predicted from scalp EEG.

Nothing in this dataset was recorded inside a head. Every value is a prediction for
research, and must not be used for diagnosis, for planning an operation or for any
other decision about a patient. Rows with scalp = 'shifted' are a control. An effect
that they show as well does not come from the pattern over the scalp.

desc-virtual_features.json describes the columns of the tables. The positions of the
virtual contacts are in desc-virtual_contacts.tsv, and the state of each recording is in
status.tsv. After the command's group level, this reads all tables together in pandas,
polars and DuckDB:

    pandas.read_parquet("group/features")
    polars.scan_parquet("group/features")
    duckdb.sql("select * from read_parquet('group/features/**/*.parquet')")
"""
# Of the dataset, by which it is recognized.
_NAME = "Features of virtual intracranial EEG: predicted, not recorded"
_NOT_BIDS = """**/*desc-virtual_*
options.toml
status*
group/
work/
"""
#: Descriptions and units of the columns of desc-virtual_contacts.tsv.
CONTACTS = {
    "name": ("name of the virtual contact", ""),
    "x": ("position to the right in fsaverage's MNI space", "m"),
    "y": ("position to the front", "m"),
    "z": ("position upwards", "m"),
    "structure": ("anatomical structure of the template head", ""),
}
#: Descriptions and units of the columns of status.tsv.
STATUS = {
    "recording": ("name of the recording", ""),
    "participant": ("label of the participant", ""),
    "session": ("label of the session, n/a if there is none", ""),
    "task": ("label of the task, n/a if there is none", ""),
    "run": ("label of the run, n/a if there is none", ""),
    "state": ("'done', 'failed', 'skipped' or 'waiting' for its turn", ""),
    "reason": ("error, or differences from what the model was built for", ""),
    "duration": ("duration of the recording", "s"),
    "seconds": ("computing time of the worker", "s"),
    "peak_memory": ("peak memory of the worker", "MiB"),
    "finished": ("time of completion in UTC", ""),
    "file": ("path of the recording", ""),
    "options": ("hash of the options and weights that change results", ""),
    "fingerprint": ("hash of everything on which the results depend", ""),
}


class Folder:
    """The derivative dataset with the results of a cohort.

    Parameters
    ----------
    root : path-like
        The folder, which need not exist.
    """

    def __init__(self, root):
        self.root = Path(root).expanduser()

    def table(self, found, what="features", ending=".parquet"):
        """Return the path of a file of a recording.

        Parameters
        ----------
        found : Found
            The recording.
        what : str
            The end of the file name.
        ending : str
            The file extension.

        Returns
        -------
        fname : Path
            The path by the rules of BIDS derivatives.
        """
        folder = self.root / f"sub-{found.entity('subject')}"
        if found.entity("session"):
            folder = folder / f"ses-{found.entity('session')}"
        return folder / "ieeg" / f"{found.result_name}_desc-virtual_{what}{ending}"

    def source(self, found):
        """Return the name of the file from which the results of a recording come.

        Parameters
        ----------
        found : Found
            The recording.

        Returns
        -------
        name : str
            The name, which may be of another recording that differs only in ``desc``.
        """
        about = json.loads(self.table(found, ending=".json").read_text("utf-8"))
        return Path(about["Sources"][0]).name

    def create(self, source, options, montage):
        """Write the description of the dataset and of the virtual contacts.

        Parameters
        ----------
        source : path-like
            The dataset of recordings.
        options : dict
            The options of the run.
        montage : DigMontage
            The contacts.
        """
        if self.root.is_file():
            raise ValueError(f"{self.root} is a file, not a folder for results.")
        self.root.mkdir(parents=True, exist_ok=True)
        about = self.root / "dataset_description.json"
        # Other runs may write this file at the same time: list what there is first.
        others = [f for f in self.root.iterdir() if not f.name.startswith(DRAFT)]
        if about.is_file() and _NAME not in about.read_text("utf-8", "replace"):
            raise ValueError(
                f"{self.root} is a dataset of recordings or of another program. Write "
                "features to a folder of their own, for example "
                "derivatives/mne_neuroflow of the dataset."
            )
        if not about.is_file() and others:
            raise ValueError(f"{self.root} is neither empty nor a BIDS dataset.")
        write_json(
            about,
            {
                "Name": _NAME,
                "BIDSVersion": "1.10.0",
                "DatasetType": "derivative",
                "GeneratedBy": [
                    {
                        "Name": "mne_neuroflow",
                        "Version": __version__,
                        "Description": "Options: " + json.dumps(options, default=str),
                    }
                ],
                "SourceDatasets": [{"URL": Path(source).absolute().as_uri()}],
            },
        )
        features = {name: f"{what} ({unit})" for name, (what, unit) in FEATURES.items()}
        write_json(
            self.root / "desc-virtual_features.json",
            describe_columns({n: (what, UNITS.get(n)) for n, what in COLUMNS.items()})
            | {"Features": features}
            | {"Bands": {name: f"{a:g}-{b:g} Hz" for name, (a, b) in BANDS.items()}},
        )
        self._write_contacts(montage)
        write_json(self.root / "status.json", describe_columns(STATUS))
        write_text(self.root / "README", _README)
        write_text(self.root / ".bidsignore", _NOT_BIDS)
        self.copy_participants(source)

    def copy_participants(self, source):
        """Copy participants.tsv, if there is one.

        Parameters
        ----------
        source : path-like
            The dataset of recordings.
        """
        participants = Path(source) / "participants.tsv"
        if participants.is_file():
            try:
                text = participants.read_text("utf-8-sig")
            except UnicodeDecodeError as err:
                raise ValueError(
                    f"{participants} is not in UTF-8, as BIDS requires. Save it again "
                    "with this encoding."
                ) from err
            write_text(self.root / "participants.tsv", text)

    def _write_contacts(self, montage):
        names, positions = contact_positions(montage)
        table = pd.DataFrame(positions, columns=list("xyz")).round(6)
        table.insert(0, "name", names)
        table["structure"] = contact_structures(montage)[0]
        write_tsv(table, self.root / "desc-virtual_contacts.tsv")
        described = describe_columns(CONTACTS)
        write_json(self.root / "desc-virtual_contacts.json", described)

    def record(self, row):
        """Save the state of a recording.

        Parameters
        ----------
        row : dict
            A row with the keys of :data:`STATUS`.
        """
        write_json(self._row_file(row["recording"]), row)

    def recorded(self, name):
        """Return the last saved state of a recording.

        Parameters
        ----------
        name : str
            Name of the recording.

        Returns
        -------
        row : dict
            The state, or an empty dict.
        """
        try:
            return json.loads(self._row_file(name).read_text("utf-8"))
        except FileNotFoundError:
            return {}

    def all_recorded(self):
        """Return the states of all recordings in all runs.

        Returns
        -------
        rows : dict of str to dict
            By name.
        """
        names = sorted(file.stem for file in (self.root / "status").glob("*.json"))
        return {name: self.recorded(name) for name in names}

    def all_known(self):
        """Return the states in the table of the last run, and of all other runs.

        Recordings that were not begun, or not chosen, are only in the table.

        Returns
        -------
        rows : dict of str to dict
            By name.
        """
        table = self.root / "status.tsv"
        rows = {}
        if table.is_file():
            read = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
            for row in read.replace("n/a", "").to_dict("records"):
                if row["state"] not in ("done", "failed"):
                    row = {name: row[name] for name in row if name != "duration"}
                    rows[row["recording"]] = row
        return rows | self.all_recorded()

    def write_status(self, rows):
        """Write the table with the state of each recording.

        Parameters
        ----------
        rows : dict of str to dict
            By name.

        Returns
        -------
        status : DataFrame
            The table.
        """
        status = pd.DataFrame(
            [rows[name] for name in sorted(rows)], columns=list(STATUS)
        )
        write_tsv(status, self.root / "status.tsv")
        return status

    def _row_file(self, name):
        return self.root / "status" / f"{name}.json"


def describe_columns(columns):
    """Describe columns in the form of BIDS' JSON files for tables.

    Parameters
    ----------
    columns : dict of str to tuple of str
        Description of each column, and its unit, if any.

    Returns
    -------
    content : dict
        Content for :func:`write_json`.
    """
    return {
        name: {"Description": what} | ({"Units": unit} if unit else {})
        for name, (what, unit) in columns.items()
    }


def write_tsv(table, fname):
    """Write a table completely or not at all, with n/a in empty cells.

    Parameters
    ----------
    table : DataFrame
        The table, without its index.
    fname : Path
        The file.
    """
    with written_whole(fname) as part:
        table.replace("", "n/a").to_csv(part, sep="\t", index=False, na_rep="n/a")


def write_text(fname, text):
    """Write a text file completely or not at all.

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
    """Write a JSON file completely or not at all.

    Parameters
    ----------
    fname : Path
        The file.
    content : dict
        What to write.
    """
    write_text(fname, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
