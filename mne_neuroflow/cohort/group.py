"""The group level: all tables as one dataset, effects over people, and a report."""

import re
import shutil

import numpy as np
import pandas as pd

from .._compat import logger, verbose, warn
from .._docs import fill_doc
from .._files import draft_folder
from .features import FEATURES
from .find import Found
from .folder import Folder, describe_columns, write_json, write_tsv
from .mixed import combine_draws, fit_random_intercept

#: Descriptions and units of the columns of effects.tsv.
EFFECTS = {
    "formula": ("formula of the model", ""),
    "feature": ("dependent variable, see desc-virtual_features.json", ""),
    "scalp": (
        "'recorded'; 'shifted' for the control, in which every scalp channel is "
        "shifted in time by a different amount; or their difference",
        "",
    ),
    "structure": ("anatomical structure of the template head", ""),
    "side": ("'left', 'right' or 'midline'", ""),
    "other_structure": ("the second structure of a pair", ""),
    "other_side": ("the side of the second structure of a pair", ""),
    "band": ("frequency band; empty if the feature has none", ""),
    "term": ("term of the formula", ""),
    "estimate": ("the effect", "unit of the feature per unit of the term"),
    "low_95": ("lower limit of its 95 % interval", "as the estimate"),
    "high_95": ("upper limit of its 95 % interval", "as the estimate"),
    "p": ("p value", "1"),
    "df": ("degrees of freedom", "1"),
    "missing_information": (
        "share of the variance that comes from the uncertainty of predictions",
        "1",
    ),
    "p_fdr": ("p value that controls the false discovery rate", "1"),
    "n_recordings": ("number of recordings", "1"),
    "n_people": ("number of people", "1"),
    "reading": ("interpretation of the effect by the control", ""),
}
#: Columns that identify an effect.
CELL = ("scalp", "structure", "side", "other_structure", "other_side", "band")
_RANDOM = re.compile(r"\+?\s*\(\s*1\s*\|\s*(\w+)\s*\)")
_FORMULA = re.compile(r"\s*(\w+)\s*~\s*(\S.*)")
_WORD = re.compile(r"(?<![\w.])[^\W\d]\w*(?!\s*[\w(.=])")  # without functions
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_QUOTED_NAME = re.compile(r"\bQ\(\s*(?:'([^']*)'|\"([^\"]*)\")\s*\)")
# Missing values of participants.tsv. pandas would add 'None', which is a level of
# columns such as medication.
_MISSING = ["", "n/a", "N/A", "#N/A", "NA", "nan", "NaN", "null", "NULL"]
_VALUE = "virtual value"  # no word, so that no column in use has this name
_LEVEL = 0.05  # of the false discovery rate, and of the intervals of effects
_CONTACT = "contact"  # the level of rows for which no effects are computed
_OF_RECORDINGS = ("recording", "participant", "session", "task", "run")
_DIFFERENCE = "recorded - shifted"


@verbose
@fill_doc
def analyze_cohort(out, formula=None, *, verbose=None) -> pd.DataFrame:
    """Combine the recordings of a cohort, and estimate effects over people.

    Parameters
    ----------
    out : path-like
        The folder of results from :func:`predict_cohort`, with its copy of the
        dataset's ``participants.tsv``.
    formula : str | list of str | None
        A model formula: a feature, ``~``, columns of ``participants.tsv`` or
        ``session``, ``task`` and ``run`` of recordings, and ``(1|participant)`` if
        people have several recordings, for example ``'power ~ group + age +
        (1|participant)'``. Names that are not words are quoted: ``Q('age at onset')``.
        ``None`` estimates no effects.
    %(verbose)s

    Returns
    -------
    effects : pandas.DataFrame
        One row per formula, scalp, place, band and term: ``estimate`` with
        ``low_95`` and ``high_95``, ``p``, ``p_fdr``, ``df``, ``missing_information``
        (the share of the variance that comes from the uncertainty of predictions),
        ``n_recordings``, ``n_people`` and ``reading``, the interpretation by the
        control. The table is empty without a formula.

    See Also
    --------
    predict_cohort

    Notes
    -----
    The function writes to ``out/group``: ``features``, all rows of all recordings as
    one partitioned parquet dataset; ``courses``, if there are time courses;
    ``effects.tsv``; and ``report.html``.

    Each draw is one completed dataset. A model is fitted to each of them, and the fits
    are combined by Rubin's rules :cite:p:`rubin1987` with degrees of freedom for small
    samples :cite:p:`barnard1999`. The uncertainty of the predictions for each person
    therefore widens the interval of the effect. With ``(1|participant)`` there is a
    random intercept for each person, fitted by restricted maximum likelihood. ``p_fdr``
    controls the false discovery rate over the places and bands of a term
    :cite:p:`benjamini1995`.

    Draws do not depend on the group of a person. Where the scalp EEG explains little,
    all people have nearly the same prior. Only about the explained share of a true
    effect is then found. The estimate is the effect on predicted values, and its
    interval need not contain the effect on recorded values. If there is no effect, the
    rate of false discoveries is below the nominal level.

    Each effect is estimated three times: for the recorded scalp EEG; for the control,
    in which each scalp channel is shifted in time by a different amount; and for the
    difference of the two. An effect that the control shows as well does not come from
    the pattern over the scalp, but from the prior or from the amplitudes of single
    channels.

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
    ...     ".",
    ...     "results",
    ...     pattern="*_raw.fif",
    ...     contacts="mtl-core",
    ...     specparam=False,
    ...     n_jobs=1,
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
    _check_same_options(out, done)
    found = [Found(row["recording"], row["file"], False) for row in done]
    files, courses = (
        [file for one in found if (file := folder.table(one, what)).is_file()]
        for what in ("features", "courses")
    )
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
    _remove_old(group, courses, effects)
    if courses:
        _gather(courses, group / "courses")
    if len(effects):
        write_tsv(effects, group / "effects.tsv")
        write_json(group / "effects.json", describe_columns(EFFECTS))
    write_report(group / "report.html", files, folder.all_known(), effects)
    return effects


def _check_same_options(out, done):
    """Refuse to mix recordings that were predicted with different options."""
    first = {}
    for row in done:
        first.setdefault(row.get("options"), row["recording"])
    if len(first) > 1:
        one, other, *_ = first.values()
        raise RuntimeError(
            f"The recordings in {out} were predicted with different options or "
            f"weights, for example {one} and {other}. Run the participant level again "
            "for all of them, with the same options."
        )


def _remove_old(group, courses, effects):
    """Remove results of a former call that this call does not replace."""
    if not courses:
        shutil.rmtree(group / "courses", ignore_errors=True)
    if effects.empty:
        for name in ("effects.tsv", "effects.json"):
            (group / name).unlink(missing_ok=True)


def _parse(formula):
    """Split a formula into the feature, fixed effects and grouping factor."""
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
            "one random term, an intercept such as (1|participant), but got "
            f"{formula!r}."
        )
    fixed = _RANDOM.sub("", right).strip() or "1"
    return formula, feature, fixed.lstrip("+ "), repeated[0] if repeated else None


def _read_people(root):
    """Read the participants, by label."""
    file = root / "participants.tsv"
    if not file.is_file():
        return pd.DataFrame({"participant": []}, dtype=str)
    people = pd.read_csv(
        file,
        sep="\t",
        na_values=_MISSING,
        keep_default_na=False,
        dtype={"participant_id": str},
    )
    if "participant_id" not in people:
        raise ValueError(f"{file} has no column participant_id.")
    labels = people["participant_id"].str.removeprefix("sub-")
    twice = labels[labels.duplicated()]
    if len(twice):
        raise ValueError(f"{file} has several rows of {', '.join(sorted(set(twice)))}.")
    # Labels of recordings are used, not columns with the same names.
    people = people.drop(columns=["participant_id", *_OF_RECORDINGS], errors="ignore")
    return people.assign(participant=labels)


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
    """Estimate the effects of one formula."""
    table = read_draws(files, feature)
    if table.empty:
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values have a feature "
            f"of structures, sides or pairs that was measured, but got {feature!r}."
        )
    recordings = table[list(_OF_RECORDINGS)].drop_duplicates("recording")
    recordings = recordings.merge(people, on="participant", how="left")
    used = _names(formula, fixed, repeated, recordings)
    _check_numbers(formula, used, people)
    recordings = _known_people(formula, used, recordings.set_index("recording"))
    _check_variation(formula, used, repeated, recordings)
    exog, terms = _design(formula, fixed, recordings)
    groups = _groups(formula, repeated, recordings, len(terms))
    blocks, cells = _blocks(table, recordings.index)
    if not any(scalp == "recorded" for scalp, *_ in cells):
        raise RuntimeError(f"No place and band has {feature} of all recordings.")
    rows = []
    for cell, values in zip(cells, _fit(blocks, exog, groups), strict=True):
        for term, result in zip(terms, combine_draws(*values), strict=True):
            rows.append(dict(zip(CELL, cell, strict=True)) | dict(term=term) | result)
    effects = pd.DataFrame(rows)
    effects.insert(0, "formula", formula)
    effects.insert(1, "feature", feature)
    effects["p_fdr"] = _false_discoveries(effects)
    effects["n_recordings"] = len(recordings)
    effects["n_people"] = recordings["participant"].nunique()
    effects["reading"] = _readings(effects)
    return effects


def read_draws(files, feature):
    """Read the draws of a feature of structures, pairs and sides.

    Parameters
    ----------
    files : list of Path
        Tables of recordings.
    feature : str
        The feature.

    Returns
    -------
    table : DataFrame
        Rows of all recordings, with their ``draws``.
    """
    from pyarrow import dataset

    field = dataset.field
    tables = dataset.dataset([str(file) for file in files], format="parquet")
    columns = [*_OF_RECORDINGS, *CELL, "draws"]
    chosen = (field("feature") == feature) & (field("level") != _CONTACT)
    return tables.to_table(columns=columns, filter=chosen).to_pandas()


def _names(formula, fixed, repeated, recordings):
    """Find the columns in a formula."""
    words = set(_WORD.findall(_QUOTED.sub("", fixed)))
    words |= {one or other for one, other in _QUOTED_NAME.findall(fixed)}
    words |= {repeated} if repeated else set()
    unknown = sorted(words - set(recordings.columns))
    if unknown:
        known = ", ".join(sorted(recordings.columns))
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed columns of "
            f"participants.tsv and of recordings are {known}, but got "
            f"{', '.join(unknown)} in {formula!r}."
        )
    return sorted(words)


def _check_numbers(formula, used, people):
    """Refuse numbers among text, of which formulas make a factor without notice."""
    for name in used:
        if name == "participant" or name not in people or _as_factor(formula, name):
            continue
        texts = people[name].dropna().astype(str).str.strip()
        if pd.to_numeric(texts.str.replace(",", "."), errors="coerce").isna().all():
            continue
        wrong = texts[pd.to_numeric(texts, errors="coerce").isna()]
        if len(wrong):
            raise ValueError(
                "Invalid value for the 'formula' parameter. Allowed columns have "
                f"either numbers or text, but {name} of {formula!r} has numbers and "
                f"{wrong.iloc[0]!r}. Correct participants.tsv, with decimal points and "
                f"n/a for unknown values, or write C({name}) if it has no quantities."
            )


def _as_factor(formula, name):
    """Return whether a formula declares that a column has categories."""
    return re.search(rf"\bC\(\s*(Q\(\s*['\"])?{re.escape(name)}\b", formula)


def _known_people(formula, used, recordings):
    """Leave out recordings of people with missing values."""
    known = recordings[used].dropna().index if used else recordings.index
    if known.empty:
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed columns are known for "
            f"some recordings, but {' and '.join(used)} of {formula!r} are n/a for "
            "all of them. Look at participants.tsv in the folder of results."
        )
    without = sorted(set(recordings.index).difference(known))
    if without:
        logger.info("Without %s: %s.", " or ".join(used), ", ".join(without))
    return recordings.loc[known]


def _check_variation(formula, used, repeated, recordings):
    """Refuse columns with one value, which formulas leave out without notice."""
    constant = [
        name
        for name in used
        if name != repeated and recordings[name].nunique() == 1 and len(recordings) > 1
    ]
    if constant:
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed columns differ between "
            f"recordings, but {' and '.join(constant)} of {formula!r} "
            f"{'is' if len(constant) == 1 else 'are'} the same in all "
            f"{len(recordings)} of them."
        )


def _groups(formula, repeated, recordings, n_terms):
    """Return the group of each recording, within which intercepts are common."""
    if repeated is None:
        if recordings["participant"].duplicated().any():
            warn(
                f"Some people have several recordings, which {formula!r} takes for "
                "independent. Add (1|participant) to the formula."
            )
        return np.arange(len(recordings))
    groups = recordings[repeated].to_numpy()
    n_groups = len(set(groups.tolist()))
    if n_groups <= n_terms:
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values have fewer "
            f"terms than there are values of {repeated}, but got {formula!r} with "
            f"{n_terms} terms and {n_groups} values."
        )
    return groups


def _without_terms(formula):
    return ValueError(
        "Invalid value for the 'formula' parameter. Allowed values have a term, as "
        f"'{formula.split('~')[0].strip()} ~ 1' has, but got {formula!r}."
    )


def _design(formula, fixed, recordings):
    """Make the design matrix of the fixed effects."""
    import statsmodels.formula.api as smf

    data = recordings.assign(**{_VALUE: np.zeros(len(recordings))})
    try:
        model = smf.ols(f"Q('{_VALUE}') ~ {fixed}", data)
    except Exception as err:  # the parser of formulas raises many kinds
        if "zero-size array" in str(err):  # of statsmodels 0.14.4
            raise _without_terms(formula) from err
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values are as in "
            f"statsmodels, but got {formula!r}: {' '.join(str(err).split())}"
        ) from err
    without = data.index.difference(model.data.row_labels)
    if len(without):
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values are numbers for "
            f"all recordings, but got {formula!r}, which is not a number for "
            f"{', '.join(without)}."
        )
    exog = np.asarray(model.exog, float)
    n, n_terms = exog.shape
    if n_terms == 0:
        raise _without_terms(formula)
    terms = f"but got {formula!r} with {', '.join(model.exog_names)}."
    if n <= n_terms:
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values have fewer "
            f"terms than there are recordings ({n}), {terms}"
        )
    if np.linalg.matrix_rank(exog) < n_terms:
        raise ValueError(
            "Invalid value for the 'formula' parameter. Allowed values have terms that "
            f"do not follow from each other, {terms}"
        )
    return exog, model.exog_names


def _blocks(table, recordings):
    """Arrange draws by cell: arrays of shape (n_recordings, n_draws).

    The difference of recorded and shifted scalp EEG has separate cells.
    """
    blocks, incomplete = {}, []
    for cell, rows in table.groupby(list(CELL), sort=True):
        rows = rows.set_index("recording")["draws"].reindex(recordings)
        if not rows.isna().any():
            block = np.stack(rows.to_numpy()).astype(float)
            if np.isfinite(block).all():
                blocks[cell] = block
                continue
        incomplete.append(" ".join(filter(None, cell)))
    if incomplete:
        logger.info(
            "Left out, because not all recordings have them: %d places and bands, for "
            "example %s.",
            len(incomplete),
            incomplete[0],
        )
    for (scalp, *place), block in list(blocks.items()):
        shifted = blocks.get(("shifted", *place))
        if scalp == "recorded" and shifted is not None:
            blocks[(_DIFFERENCE, *place)] = block - shifted
    return list(blocks.values()), list(blocks)


def _fit(blocks, exog, groups):
    """Fit all draws of all cells at once; yield estimates and variances by cell."""
    n_draws = blocks[0].shape[1]
    values = np.concatenate(blocks, axis=1)
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
    """Describe each effect of recorded scalp EEG compared with the control."""
    place = ["term", *CELL[1:]]
    by_scalp = {name: rows.set_index(place) for name, rows in effects.groupby("scalp")}
    readings = []
    for _, row in effects.iterrows():
        key = tuple(row[name] for name in place)
        if row["scalp"] != "recorded":
            readings.append("")
        elif row["p_fdr"] >= _LEVEL:
            readings.append("no effect found")
        elif not {"shifted", _DIFFERENCE} <= set(by_scalp):
            readings.append("an effect, without a control")
        else:
            both = [by_scalp[name] for name in ("shifted", _DIFFERENCE)]
            if all(key in effects.index for effects in both):
                readings.append(_reading(row, *(effects.loc[key] for effects in both)))
            else:
                readings.append("an effect, without a control at this place")
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
    return "undecided: too little data to distinguish it from the control"
