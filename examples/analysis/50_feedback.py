"""
A feedback loop, and its control
================================

This example computes the theta power of hippocampal contacts during a recording, with
its interval, ten times per second. It also computes the necessary control: the same
with scalp EEG of another time.
"""

# %%
# .. warning::
#
#    A virtual contact is a prediction. If the scalp EEG says little about a contact,
#    most of its power is that of the prior, and feedback on it is feedback on noise.
#    Check the observability first, and run the control with every participant.
import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import butter, sosfilt

from mne_neuroflow import make_contacts
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.stream import StreamPredictor

raw = load_demo(verbose=False)
sfreq = raw.info["sfreq"]
positions = make_contacts("mtl").get_positions()["ch_pos"]
contacts = [positions[name] for name in ("vPHL1", "vPHR1")]


# %%
# Power with its interval
# -----------------------
# The power of a median is not the median of the power. Therefore all draws are
# requested. Each draw is filtered from 4 to 8 Hz, and its power is averaged over about
# the last second.
class ThetaPower:
    """Theta power of each draw, the mean over contacts."""

    def __init__(self, info, n_draws=20):
        self.live = StreamPredictor(
            info, contacts=contacts, output="draws", n_draws=n_draws, random_state=0
        )
        self.band = butter(2, (4, 8), "bandpass", fs=sfreq, output="sos")
        self.state = np.zeros((len(self.band), n_draws, len(contacts), 2))
        self.smooth = np.zeros(n_draws)
        self.share = 1 - np.exp(-1 / sfreq)

    def push(self, samples):
        """Add scalp samples, and return the power after each virtual sample."""
        virtual, _ = self.live.push(samples)
        if not virtual.shape[-1]:
            return []
        theta, self.state = sosfilt(self.band, virtual, zi=self.state)
        powers = []
        for power in ((1e6 * theta) ** 2).mean(axis=1).T:
            self.smooth = self.smooth + self.share * (power - self.smooth)
            powers.append(self.smooth)
        return powers


# %%
# This is the loop. The control uses the scalp EEG of twenty seconds later: the same
# person and spectrum, but another time.
def run(scalp):
    """Return median, 5 % and 95 % of theta power, ten times a second."""
    theta, rows = ThetaPower(raw.info), []
    step = round(sfreq / 10)
    for start in range(0, scalp.shape[1], step):
        rows += theta.push(scalp[:, start : start + step])
    return np.quantile(np.array(rows)[::step], [0.5, 0.05, 0.95], axis=1)


names = StreamPredictor(raw.info, contacts=contacts, random_state=0).ch_names
scalp = raw.get_data(names, stop=int(40 * sfreq))
true, control = run(scalp), run(np.roll(scalp, -int(20 * sfreq), axis=1))

# %%
# Where the two intervals overlap, the feedback would have been as good with scalp EEG
# of another time. The first seconds are not shown, because the estimates of the sources
# are not yet stable.
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for (median, low, high), label, color in (
    (true, "scalp EEG of this time", "C0"),
    (control, "control: scalp EEG of 20 s later", "0.5"),
):
    times = np.arange(len(median)) / 10
    late = times >= 15
    ax.fill_between(times[late], low[late], high[late], color=color, alpha=0.25, lw=0)
    ax.plot(times[late], median[late], color=color, lw=1, label=label)
ax.set(xlim=(15, times[-1]), yscale="log")
ax.set(xlabel="Time (s)", ylabel="Theta power (µV²)")
ax.legend(frameon=False)
ax.set_title("Virtual hippocampal contacts: predicted, not recorded", fontsize="medium")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# As a separate stream
# --------------------
# With LSL, the source of samples is a stream, and the power is another stream at 10 Hz:
#
# .. code-block:: python
#
#    import time
#
#    from mne_lsl.lsl import StreamInfo, StreamOutlet
#    from mne_lsl.stream import StreamLSL
#
#    scalp = StreamLSL(bufsize=5, name="scalp").connect(acquisition_delay=None)
#    theta = ThetaPower(scalp.info)
#    names = ["median", "5 %", "95 %"]
#    sinfo = StreamInfo("theta", "feedback", 3, 10, "float32", "virtual theta")
#    sinfo.set_channel_names(names)
#    outlet = StreamOutlet(sinfo)
#    count, step, start = 0, round(scalp.info["sfreq"] / 10), None
#    while True:
#        scalp.acquire()
#        n_new = scalp.n_new_samples
#        if not n_new:
#            time.sleep(0.005)
#            continue
#        seconds = n_new / scalp.info["sfreq"]
#        samples, times = scalp.get_data(seconds, picks=theta.live.ch_names)
#        start = times[-n_new] if start is None else start
#        for power in theta.push(samples[:, -n_new:]):  # in volts
#            count += 1
#            if count % step == 0:
#                median, low, high = np.quantile(power, [0.5, 0.05, 0.95])
#                values = np.array([median, low, high], np.float32)
#                outlet.push_sample(values, start + count / scalp.info["sfreq"])
#
# Time stamps are those of the scalp EEG. Two or three values come with each prediction,
# four times per second. With ``hop=0.0625`` they come one by one, for four times the
# computing time.
#
# Run the control as well, with scalp EEG from about twenty seconds before, and compare
# the two before you draw conclusions from a person's success.
