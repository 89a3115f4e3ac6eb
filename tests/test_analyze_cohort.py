"""The group level: effects over people, what the control says, and the report."""

import json
import shutil

import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd
import pytest

from mne_neuroflow import analyze_cohort
from mne_neuroflow.cohort.features import Places, Values, tabulate, tabulate_known
from mne_neuroflow.cohort.find import Found
from mne_neuroflow.cohort.folder import Folder
from mne_neuroflow.cohort.mixed import combine_draws, fit_random_intercept
from mne_neuroflow.cohort.participant import new_row
from mne_neuroflow.head.contacts import make_contacts
from mne_neuroflow.scores.signals import BANDS

pytest.importorskip("pyarrow")
statsmodels = pytest.importorskip("statsmodels.api")

CONTACTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]  # metres
N_DRAWS, ALPHA = 20, list(BANDS).index("alpha")


# Models -------------------------------------------------------------------------------


def _recordings(rng, n_people=30):
    """People of two groups with one to three recordings, and what differs by group."""
    who = np.repeat(np.arange(n_people), rng.integers(1, 4, n_people))
    exog = np.column_stack([np.ones(len(who)), who % 2, rng.normal(size=len(who))])
    return who, exog


def test_random_intercepts_are_those_of_statsmodels():
    """Seen to fail with the likelihood that is not restricted, and with the variance
    between people taken for that within.
    """
    rng = np.random.default_rng(0)
    who, exog = _recordings(rng)
    spread = np.array([0.3, 1.0, 2.0])
    values = spread * rng.normal(size=(30, 3))[who] + rng.normal(size=(len(who), 3))
    estimates, variances = fit_random_intercept(values, exog, who)
    for k in range(3):
        fit = statsmodels.MixedLM(values[:, k], exog, who).fit(reml=True)
        np.testing.assert_allclose(estimates[k], fit.fe_params, atol=2e-3)
        within, between = fit.scale, float(np.asarray(fit.cov_re)[0, 0])
        covariance = within * np.eye(len(who)) + between * (who[:, None] == who)
        inverse = np.linalg.inv(exog.T @ np.linalg.solve(covariance, exog))
        np.testing.assert_allclose(variances[k], np.diag(inverse), rtol=1e-2)


def test_without_repetition_it_is_least_squares():
    rng = np.random.default_rng(0)
    _, exog = _recordings(rng)
    values = rng.normal(size=(len(exog), 2))
    estimates, variances = fit_random_intercept(values, exog, np.arange(len(exog)))
    for k in range(2):
        fit = statsmodels.OLS(values[:, k], exog).fit()
        np.testing.assert_allclose(estimates[k], fit.params)
        np.testing.assert_allclose(np.sqrt(variances[k]), fit.bse)


@pytest.mark.slow
def test_combined_intervals_cover():
    """Intervals over draws hold the truth as often as they say.

    Half of the values are not known, and drawn from what the others say of them. Seen
    to fail with the spread between draws left out.
    """
    rng = np.random.default_rng(1)
    n, n_draws, inside = 40, 20, []
    exog = np.column_stack([np.ones(n), np.arange(n) % 2])
    known, unknown = np.arange(n) < n // 2, np.arange(n) >= n // 2
    for _ in range(1000):
        truth = 2 * exog[:, 1] + rng.normal(size=n)
        fit = statsmodels.OLS(truth[known], exog[known]).fit()
        draws = np.repeat(truth[:, None], n_draws, axis=1)
        for k in range(n_draws):
            scale = fit.ssr / rng.chisquare(fit.df_resid)
            cov = fit.normalized_cov_params * scale
            beta = rng.multivariate_normal(fit.params, cov)
            noise = np.sqrt(scale) * rng.normal(size=unknown.sum())
            draws[unknown, k] = exog[unknown] @ beta + noise
        fits = fit_random_intercept(draws, exog, np.arange(n))
        result = combine_draws(*fits, n - 2)[1]
        inside.append(result["low_95"] <= 2 <= result["high_95"])
    assert 0.93 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("explained", [0.3, 0.9])
def test_draws_that_do_not_know_the_group_find_less(explained):
    """Of an effect as much is found as the scalp explains, and none out of nothing.

    Draws come from one prior for everybody, as those of a cohort do. Seen to fail with
    draws taken for people of their own, and with estimates of another term.
    """
    rng = np.random.default_rng(2)
    n, n_draws, n_repeats = 40, 20, 400
    exog = np.column_stack([np.ones(n), np.arange(n) % 2])
    noise = np.sqrt((1 - explained) / explained)
    for effect in (0, 1):
        truth = effect * exog[:, 1:] + rng.normal(size=(n, n_repeats))
        mean = explained * (truth + noise * rng.normal(size=truth.shape))
        draws = rng.normal(size=(n, n_repeats, n_draws))
        draws = mean[..., None] + np.sqrt(1 - explained) * draws
        fits = fit_random_intercept(draws.reshape(n, -1), exog, np.arange(n))
        fits = [part.reshape(n_repeats, n_draws, 2) for part in fits]
        tables = [combine_draws(*fit, n - 2)[1] for fit in zip(*fits, strict=True)]
        found = np.array([each["estimate"] for each in tables])
        error = found.std(ddof=1) / np.sqrt(n_repeats)
        assert abs(found.mean() - explained * effect) < 4 * error
        if not effect:
            assert np.mean([each["p"] < 0.05 for each in tables]) <= 0.065


def test_few_draws_that_agree_have_the_freedom_of_the_data():
    result = combine_draws(np.ones((20, 1)), np.ones((20, 1)), df=18)[0]
    assert result["missing_information"] == 0
    assert abs(result["df"] - 18 * 19 / 21) < 1e-6


def test_what_is_known_for_certain_has_one_draw():
    told = combine_draws(np.array([[2.0]]), np.array([[1.0]]), df=1000)[0]
    assert told["missing_information"] == 0
    assert abs(told["high_95"] - 3.96) < 0.02


# A cohort on disk ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Twenty people: alpha of the left contact differs with the group through the
    pattern over the scalp, that of the right one through the prior as well.
    """
    folder = Folder(tmp_path_factory.mktemp("cohort"))
    rng = np.random.default_rng(0)
    places = Places(make_contacts(CONTACTS, verbose=False))
    n_pairs = len(places.pairs[0])
    people = [(f"sub-{k:02d}", k % 2, 20 + k) for k in range(20)]
    for name, group, _ in people:
        found = Found(f"{name}_task-rest", f"{name}.edf", True)
        tables = [tabulate_known([("gain", 1.0, dict(level="recording"))])]
        own = rng.normal(0, 0.5, size=(2, len(BANDS)))
        for scalp in ("recorded", "shifted"):
            level = own + rng.normal(0, 0.3, size=(N_DRAWS, 2, len(BANDS)))
            level[:, 0, ALPHA] += 5 * group * (scalp == "recorded")
            level[:, 1, ALPHA] += 5 * group
            values = Values(
                1e-12 * 10 ** (level / 10),
                rng.normal(size=(N_DRAWS, 2)),
                np.zeros((N_DRAWS, 2)),
                np.zeros((N_DRAWS, 2)),
                rng.random((N_DRAWS, n_pairs, len(BANDS))),
            )
            tables.append(tabulate(values, places))
        scalps = ["recorded", "recorded", "shifted"]
        table = pd.concat(tables, keys=scalps, names=["scalp", None])
        table = table.reset_index("scalp")
        for which in ("run", "task", "session", "subject"):
            name_of = "participant" if which == "subject" else which
            table.insert(0, name_of, found.entity(which))
        table.insert(0, "recording", found.name)
        folder.table(found).parent.mkdir(parents=True)
        table.to_parquet(folder.table(found), index=False)
        folder.record(new_row(found, state="done", duration=60.0))
    failed = Found("sub-99_task-rest", "sub-99.edf", True)
    folder.record(new_row(failed, state="failed", reason="It is <empty>.", duration=0))
    table = pd.DataFrame(people, columns=["participant_id", "group", "age"])
    table["nothing"], table["hospital"] = "n/a", "A"
    table.to_csv(folder.root / "participants.tsv", sep="\t", index=False)
    return folder.root


def _alpha(effects, scalp="recorded"):
    chosen = effects.query("term == 'group' and band == 'alpha' and scalp == @scalp")
    return chosen.set_index("side")


def test_effects_and_what_the_control_says(cohort):
    """Seen to fail with recorded and shifted exchanged."""
    effects = analyze_cohort(cohort, "power ~ group + age", verbose="error")
    recorded = _alpha(effects)
    assert (np.abs(recorded["estimate"] - 5) < 1.2).all()
    assert recorded.loc["left", "reading"].startswith("not there with shifted")
    assert recorded.loc["right", "reading"].startswith("also there with shifted")
    others = effects.query("term == 'group' and scalp == 'recorded'")
    others = others[~others["band"].isin(["alpha", "broad"])]
    assert (others["reading"] == "no effect found").all()
    assert (effects["n_recordings"] == 20).all()
    written = pd.read_csv(cohort / "group" / "effects.tsv", sep="\t")
    assert len(written) == len(effects)


def test_one_dataset_of_all_recordings(cohort):
    analyze_cohort(cohort, verbose="error")
    analyze_cohort(cohort, verbose="error")  # in the place of the first
    table = pd.read_parquet(cohort / "group" / "features")
    assert table["recording"].nunique() == 20
    assert set(table["feature"]) >= {"power", "spike_rate", "connectivity"}
    assert not [f for f in (cohort / "group").iterdir() if f.name.startswith(".")]


def test_report_says_who_is_missing_and_what_the_control_is(cohort):
    analyze_cohort(cohort, "power ~ group", verbose="error")
    text = (cohort / "group" / "report.html").read_text("utf-8")
    assert "It is &lt;empty&gt;." in text and "not recordings" in text
    assert "not from the pattern over the scalp" in text
    assert not plt.get_fignums()


def test_functions_and_quotes_are_no_columns(cohort):
    formula = "power ~ np.log(age) + C(group, Treatment(reference=0))"
    effects = analyze_cohort(cohort, formula, verbose="error")
    assert "np.log(age)" in set(effects["term"])


def test_several_formulas(cohort):
    formulas = ["power ~ age + (1|participant)", "spike_rate ~ 1"]
    effects = analyze_cohort(cohort, formulas, verbose="error")
    assert set(effects["formula"]) == set(formulas)


def test_people_without_a_covariate_are_left_out(copied):
    """And counted in the report. Seen to fail with all people counted."""
    _with_columns(copied, age=["n/a", *range(21, 40)])
    effects = analyze_cohort(copied, "power ~ age", verbose="error")
    assert set(effects["n_recordings"]) == {19}
    text = (copied / "group" / "report.html").read_text("utf-8")
    assert "19 recordings of 19 people. Left out, because a column" in text
    assert "has no value for them: 1. Of " in text


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("size ~ group", "with a feature of power"),
        ("power ~ hat", "age, group, .* but got hat"),
        ("power ~ group + (1|family)", "but got family"),
        ("power ~ np.log(hat)", "but got hat"),
        ("power ~ hospital + age", "hospital of .* is the same in all 20"),
        ("power ~ nothing", "nothing of 'power ~ nothing' are n/a for all"),
        ("power ~ 0", "have a term, as 'power ~ 1'"),
        ("power ~ group +", "as in statsmodels"),
        ("power ~ (group|participant)", "an intercept such as"),
        ("specparam_exponent ~ 1", "that was measured"),
        ("power ~ (1|group) + (1|participant)", "at most one random term"),
        ("power", "like 'power ~ group"),
        ("power ~ C(participant)", r"fewer terms than there are recordings \(20\)"),
        ("power ~ age + I(2 * age)", "do not follow from each other"),
    ],
)
def test_wrong_formulas(cohort, formula, message):
    with pytest.raises(ValueError, match=message):
        analyze_cohort(cohort, formula, verbose="error")


@pytest.fixture
def copied(cohort, tmp_path):
    """A copy of the cohort, to be changed."""
    return shutil.copytree(cohort, tmp_path / "cohort")


def _with_columns(folder, **columns):
    file = folder / "participants.tsv"
    table = pd.read_csv(file, sep="\t", keep_default_na=False).assign(**columns)
    table.to_csv(file, sep="\t", index=False)


def test_participants_have_columns_with_names_of_the_tables(copied):
    """Seen to fail with participants merged into the rows of places and bands."""
    sides = ["left", "right"] * 10
    _with_columns(copied, side=sides, band=sides, session="n/a", median=1)
    effects = analyze_cohort(copied, "power ~ side", verbose="error")
    assert set(effects["term"]) == {"Intercept", "side[T.right]"}
    assert set(effects["band"]) == set(BANDS)


def test_names_that_are_no_words_are_quoted(copied):
    """Seen to fail with missing values of quoted names, which the parser of formulas
    leaves out by itself.
    """
    _with_columns(copied, **{"age at onset": ["n/a", *range(19)]})
    effects = analyze_cohort(copied, "power ~ Q('age at onset')", verbose="error")
    assert (effects["n_recordings"] == 19).all()
    with pytest.raises(ValueError, match="but got age at school"):
        analyze_cohort(copied, "power ~ Q('age at school')", verbose="error")


@pytest.mark.slow
def test_columns_keep_their_names_and_levels(copied):
    """Seen to fail with 'None' taken for a missing value, with the dependent variable
    in the place of a column called value, and with letters beyond ASCII, of which
    missing values were not found.
    """
    _with_columns(
        copied,
        drug=["None", "SSRI"] * 10,
        value=range(20),
        Änderung=["n/a", *range(19)],
    )
    effects = analyze_cohort(copied, "power ~ drug + value", verbose="error")
    assert set(effects["term"]) == {"Intercept", "drug[T.SSRI]", "value"}
    assert (effects["n_recordings"] == 20).all()
    effects = analyze_cohort(copied, "power ~ Änderung", verbose="error")
    assert (effects["n_recordings"] == 19).all()


@pytest.mark.parametrize("wrong", ["23,5", "unknown", "> 90"])
def test_numbers_among_text_are_no_factor(copied, wrong):
    """Seen to fail with a term for each value of the column."""
    _with_columns(copied, weight=[wrong, *"3567" * 4, *"567"])
    with pytest.raises(ValueError, match=f"weight of .* has numbers and '{wrong}'"):
        analyze_cohort(copied, "power ~ weight", verbose="error")
    effects = analyze_cohort(copied, "power ~ C(weight)", verbose="error")
    assert effects["term"].nunique() == 5


@pytest.mark.filterwarnings("ignore:invalid value encountered in log")
def test_formulas_have_a_number_for_each_recording(copied):
    """Seen to fail with the rows that the parser of formulas leaves out by itself."""
    _with_columns(copied, change=[-1.0, *range(1, 20)])
    with pytest.raises(ValueError, match="not a number for sub-00_task-rest"):
        analyze_cohort(copied, "power ~ np.log(change)", verbose="error")


def test_participants_are_in_utf8(copied, tmp_path):
    """Seen to fail with a message that names no file."""
    table = "participant_id\tgroup\nsub-00\tÄlter\n"
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "participants.tsv").write_text(table, encoding)
        with pytest.raises(ValueError, match="participants.tsv is not in UTF-8"):
            Folder(copied).copy_participants(tmp_path)


def test_wrong_tables_of_participants(copied):
    """Seen to fail without the checks: a KeyError, and rows counted twice."""
    file = copied / "participants.tsv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, lines[3]]))
    with pytest.raises(ValueError, match="several rows of 02"):
        analyze_cohort(copied, "power ~ age", verbose="error")
    file.write_text("".join(lines).replace("participant_id", "name"))
    with pytest.raises(ValueError, match="no column participant_id"):
        analyze_cohort(copied, "power ~ age", verbose="error")


def test_several_recordings_of_a_person(copied):
    """Seen to fail without the warning and without the check of few people."""
    for k, file in enumerate(sorted(copied.glob("sub-*/**/*.parquet"))):
        table = pd.read_parquet(file)
        table["participant"], table["session"] = f"{k // 10:02d}", f"{k % 10}"
        table.to_parquet(file, index=False)
    with pytest.warns(RuntimeWarning, match="Add .1.participant. to the formula"):
        effects = analyze_cohort(copied, "power ~ 1", verbose="warning")
    assert (effects["n_people"] == 2).all()
    with pytest.raises(ValueError, match="2 terms and 2 values"):
        analyze_cohort(copied, "power ~ age + (1|participant)", verbose="error")


def test_recordings_of_other_options_are_not_mixed(copied):
    """Seen to fail without the check."""
    file = copied / "status" / "sub-03_task-rest.json"
    row = json.loads(file.read_text()) | dict(options="others")
    file.write_text(json.dumps(row))
    with pytest.raises(RuntimeError, match="example sub-00_task-rest and sub-03_task-"):
        analyze_cohort(copied, verbose="error")


def test_places_without_a_control(copied):
    """One draw of one control is not a number. Seen to fail with a KeyError."""
    file = next(copied.glob("sub-03/**/*_features.parquet"))
    table = pd.read_parquet(file)
    chosen = (table["scalp"] == "shifted") & (table["feature"] == "power")
    chosen &= (table["side"] == "left") & (table["level"] == "structure")
    for row in table.index[chosen & (table["band"] == "alpha")]:
        table.at[row, "draws"] = [np.nan, *table.at[row, "draws"][1:]]
    table.to_parquet(file, index=False)
    with mne.utils.catch_logging() as log:
        effects = analyze_cohort(copied, "power ~ group", verbose="info")
        said = log.getvalue()
    assert "1 places and bands, for example shifted hippocampus left alpha" in said
    reading = _alpha(effects)["reading"]
    assert reading["left"] == "an effect, without a control at this place"
    assert reading["right"].startswith("also there with shifted")


def test_report_names_recordings_that_were_not_begun(copied):
    """Of a run that was interrupted, or that was of some people.

    Seen to fail with the failed ones alone.
    """
    rows = Folder(copied).all_recorded()
    for name, state, reason in (
        ("sub-97_task-rest", "waiting", ""),
        ("sub-98_task-rest", "skipped", "Not among the chosen labels."),
    ):
        found = Found(name, f"{name}.edf", True)
        rows[name] = new_row(found, state=state, reason=reason)
    Folder(copied).write_status(rows)
    analyze_cohort(copied, verbose="error")
    text = (copied / "group" / "report.html").read_text("utf-8")
    assert "20 done, 1 waiting, 1 skipped, 1 failed" in text
    assert "sub-97_task-rest" in text and "Not among the chosen labels." in text


def test_no_effects_of_a_former_formula_remain(copied):
    """Seen to fail with the table of the first call left there."""
    analyze_cohort(copied, "power ~ group", verbose="error")
    assert (copied / "group" / "effects.tsv").is_file()
    analyze_cohort(copied, verbose="error")
    assert not list((copied / "group").glob("effects.*"))


def test_nothing_to_analyze(tmp_path):
    with pytest.raises(RuntimeError, match="Run the participant level"):
        analyze_cohort(tmp_path)
