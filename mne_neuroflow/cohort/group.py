"""The group level: all tables as one dataset, effects over people, and a report."""

import re

import numpy as np
import pandas as pd

from .._compat import logger, verbose
from .._files import draft_folder, written_whole
from .features import FEATURES
from .find import Found
from .folder import Folder
from .mixed import combine_draws, fit_random_intercept

#: What tells one effect from another.
CELL = ("scalp", "structure", "side", "other_structure", "other_side", "band")
_RANDOM = re.compile(r"\+?\s*\(\s*1\s*\|\s*(\w+)\s*\)")
_FORMULA = re.compile(r"\s*(\w+)\s*~\s*(\S.*)")
_LEVEL = 0.05  # of false discoveries, and of the intervals of effects
_CONTACT = "contact"  # the level of rows that no effect is told of
_DIFFERENCE = "recorded - shifted"


@verbose
def analyze_cohort(out, formula=None, *, verbose=None) -> pd.DataFrame:
    """Put the recordings of a cohort together, and tell effects over people.

    Parameters
    ----------
    out : path-like
        The folder that :func:`predict_cohort` has written.
    formula : str | list of str | None
        What is to be explained by what: a feature, ``~``, columns of the dataset's
        ``participants.tsv``, and perhaps ``(1|participant)`` for people with several
        recordings, for example ``'power ~ group + age + (1|participant)'``. ``None``
        tells no effects.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    effects : pandas.DataFrame
        One row per formula, scalp, place, band and term: ``estimate`` with
        ``low_95`` and ``high_95``, ``p``, ``p_fdr``, ``df``, ``missing_information``
        (the share of the variance that comes from what the scalp leaves open),
        ``n_recordings``, ``n_people`` and ``reading``, what the control says of it.
        Empty without a formula.

    See Also
    --------
    predict_cohort

    Notes
    -----
    Written to ``out/group``: ``features``, all rows of all recordings as one
    partitioned parquet dataset; ``effects.tsv``; and ``report.html``.

    Every draw is one completed dataset. A model is fitted to each of them, and fits
    are combined by Rubin's rules :cite:p:`rubin1987` with degrees of freedom for small
    samples :cite:p:`barnard1999`, so that what the scalp leaves open about each person
    widens the interval of the effect. With ``(1|participant)`` there is a random
    intercept for each person, fitted by restricted maximum likelihood. ``p_fdr``
    controls the share of false discoveries over the places and bands of a term
    :cite:p:`benjamini1995`.

    Each effect is told three times: of the recorded scalps; of the control, in which
    every scalp channel is shifted in time by a different amount; and of the difference
    of the two. An effect that the control shows as well does not rest on the pattern
    over the scalp: it comes from the prior, or from the amplitudes of single channels.

    .. versionadded:: 0.1.0

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False)
    >>> for k in (0, 10, 20):
    ...     part = raw.copy().crop(k, k + 4)
    ...     fname = part.save(f"demo{k}_raw.fif", verbose=False)
    >>> status = mne_neuroflow.predict_cohort(
    ...     ".", "results", pattern="*_raw.fif", contacts="mtl-core", n_jobs=1
    ... )
    >>> effects = mne_neuroflow.analyze_cohort("results", "relative_power ~ 1")
    >>> effects["n_recordings"].unique()
    array([3])
    """
    from .report import write_report

    folder = Folder(out)
    formulas = [formula] if isinstance(formula, str) else list(formula or [])
    parsed = [_parse(each) for each in formulas]
    rows = folder.all_recorded()
    done = [row for row in rows.values() if row["state"] == "done"]
    files = [folder.table(Found(row["recording"], row["file"], False)) for row in done]
    files = [file for file in files if file.is_file()]
    if not files:
        raise RuntimeError(
            f"There are no tables of recordings in {out}. Run the participant level "
            "first."
        )
    logger.info("Recordings: %d of %d.", len(files), len(rows))
    group = folder.root / "group"
    group.mkdir(exist_ok=True)
    people = _read_people(folder.root)
    _gather(files, group / "features")
    effects = [_effects(files, people, *each) for each in parsed]
    effects = pd.concat(effects, ignore_index=True) if effects else pd.DataFrame()
    if len(effects):
        with written_whole(group / "effects.tsv") as fname:
            effects.to_csv(fname, sep="\t", index=False)
    write_report(group / "report.html", files, rows, effects)
    return effects


def _parse(formula):
    """Split a formula into the feature, what explains it, and who repeats."""
    match = _FORMULA.fullmatch(formula)
    if match is None or match[1] not in FEATURES:
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values are like 'power "
            f"~ group + (1|participant)', with a feature of {', '.join(FEATURES)}, but "
            f"got {formula!r}."
        )
    feature, right = match.groups()
    repeated = _RANDOM.findall(right)
    if len(repeated) > 1 or "|" in _RANDOM.sub("", right):
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values have at most "
            f"one random term, such as (1|participant), but got {formula!r}."
        )
    fixed = _RANDOM.sub("", right).strip() or "1"
    return formula, feature, fixed.lstrip("+ "), repeated[0] if repeated else None


def _read_people(root):
    """Read the participants, by label."""
    file = root / "participants.tsv"
    if not file.is_file():
        return pd.DataFrame({"participant": []}, dtype=str)
    people = pd.read_csv(file, sep="\t", na_values="n/a", dtype={"participant_id": str})
    people.insert(0, "participant", people["participant_id"].str.removeprefix("sub-"))
    return people


def _gather(files, target):
    """Write all rows as one dataset, partitioned by feature."""
    from pyarrow import dataset

    tables = dataset.dataset([str(file) for file in files], format="parquet")
    columns = [name for name in tables.schema.names if name != "draws"]
    with draft_folder(target.parent) as draft:
        dataset.write_dataset(
            tables.scanner(columns=columns),
            draft / "new",
            format="parquet",
            partitioning=["feature"],
            partitioning_flavor="hive",
        )
        if target.exists():
            target.rename(draft / "old")
        (draft / "new").rename(target)


# Effects ------------------------------------------------------------------------------


def _effects(files, people, formula, feature, fixed, repeated):
    """Tell the effects of one formula."""
    table = read_draws(files, feature)
    table = table.merge(people, on="participant", how="left")
    used = sorted(_names(fixed, table) | ({repeated} if repeated else set()))
    recordings = table.drop_duplicates("recording").set_index("recording")
    known = recordings[used].dropna().index if used else recordings.index
    without = sorted(set(recordings.index).difference(known))
    if without:
        logger.info("Without %s: %s.", " or ".join(used), ", ".join(without))
    recordings = recordings.loc[known]
    exog, terms = _design(fixed, recordings)
    who = (recordings[repeated] if repeated else recordings["participant"]).to_numpy()
    blocks, cells = _blocks(table, recordings.index)
    rows = []
    for cell, values in zip(cells, _fit(blocks, exog, who, repeated), strict=True):
        for term, told in zip(terms, combine_draws(*values), strict=True):
            rows.append(dict(zip(CELL, cell, strict=True)) | dict(term=term) | told)
    effects = pd.DataFrame(rows)
    effects.insert(0, "formula", formula)
    effects.insert(1, "feature", feature)
    effects["p_fdr"] = _false_discoveries(effects)
    effects["n_recordings"], effects["n_people"] = len(recordings), len(set(who))
    effects["reading"] = _readings(effects)
    return effects


def read_draws(files, feature):
    """Read the draws of a feature of structures, pairs and sides.

    Parameters
    ----------
    files : list of Path
        Tables of recordings.
    feature : str
        Which feature.

    Returns
    -------
    table : DataFrame
        Rows of all recordings, with their ``draws``.
    """
    from pyarrow import dataset

    field = dataset.field
    tables = dataset.dataset([str(file) for file in files], format="parquet")
    columns = ["recording", "participant", "session", "task", "run", *CELL, "draws"]
    chosen = (field("feature") == feature) & (field("level") != _CONTACT)
    return tables.to_table(columns=columns, filter=chosen).to_pandas()


def _names(fixed, table):
    """Find the columns that a formula speaks of."""
    words = set(re.findall(r"[A-Za-z_]\w*", fixed))
    return words & set(table.columns)


def _design(fixed, recordings):
    """Make the design matrix of the fixed effects."""
    import statsmodels.formula.api as smf

    data = recordings.assign(value=np.zeros(len(recordings)))
    try:
        model = smf.ols(f"value ~ {fixed}", data)
    except Exception as err:  # the parser of formulas raises many kinds
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values speak of "
            f"columns of participants.tsv, but got '{fixed}': "
            f"{' '.join(str(err).split())}"
        ) from err
    exog = np.asarray(model.exog, float)
    if np.linalg.matrix_rank(exog) < exog.shape[1] or len(exog) <= exog.shape[1]:
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values have terms that "
            f"{len(exog)} recordings can tell apart, but got '{fixed}'."
        )
    return exog, model.exog_names


def _blocks(table, recordings):
    """Arrange draws by cell: arrays of shape (n_recordings, n_draws).

    The difference of the recorded and the shifted scalp has cells of its own.
    """
    blocks = {}
    for cell, rows in table.groupby(list(CELL), sort=True):
        rows = rows.set_index("recording")["draws"].reindex(recordings)
        if not rows.isna().any():
            blocks[cell] = np.stack(rows.to_numpy()).astype(float)
    for (scalp, *place), block in list(blocks.items()):
        shifted = blocks.get(("shifted", *place))
        if scalp == "recorded" and shifted is not None:
            blocks[(_DIFFERENCE, *place)] = block - shifted
    return list(blocks.values()), list(blocks)


def _fit(blocks, exog, who, repeated):
    """Fit every draw of every cell at once; yield estimates and variances by cell."""
    n_draws = blocks[0].shape[1]
    values = np.concatenate(blocks, axis=1)
    groups = who if repeated else np.arange(len(who))
    estimates, variances = fit_random_intercept(values, exog, groups)
    n_people = len(set(groups.tolist()))
    for k in range(len(blocks)):
        some = slice(k * n_draws, (k + 1) * n_draws)
        yield estimates[some], variances[some], n_people - exog.shape[1]


def _false_discoveries(effects):
    from statsmodels.stats.multitest import multipletests

    def adjusted(p):
        return multipletests(p, method="fdr_bh")[1]

    return effects.groupby(["scalp", "term"])["p"].transform(adjusted)


def _readings(effects):
    """Say in words what the control makes of each effect of the recorded scalps."""
    place = ["term", *CELL[1:]]
    by_scalp = {name: rows.set_index(place) for name, rows in effects.groupby("scalp")}
    readings = []
    for _, row in effects.iterrows():
        key = tuple(row[name] for name in place)
        if row["scalp"] != "recorded":
            readings.append("")
        elif row["p_fdr"] >= _LEVEL:
            readings.append("no effect found")
        elif "shifted" not in by_scalp:
            readings.append("an effect, which no control stands beside")
        else:
            both = (by_scalp[name].loc[key] for name in ("shifted", _DIFFERENCE))
            readings.append(_reading(row, *both))
    return readings


def _reading(recorded, shifted, difference):
    stays = shifted["p"] < _LEVEL and (
        np.sign(shifted["estimate"]) == np.sign(recorded["estimate"])
    )
    grows = difference["p"] < _LEVEL and (
        np.sign(difference["estimate"]) == np.sign(recorded["estimate"])
    )
    if stays and grows:
        return "partly there with shifted channels: the pattern over the scalp adds"
    if stays:
        return "also there with shifted channels: not from the pattern over the scalp"
    if grows:
        return "not there with shifted channels: from the pattern over the scalp"
    return "undecided: too little data to tell it from the control"
