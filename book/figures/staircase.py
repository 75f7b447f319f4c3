"""Draw the staircase that opens the README and the book: staircase.svg beside this.

python book/figures/staircase.py
"""

from pathlib import Path

import matplotlib.pyplot as plt

from pkg import dynamics, plots, record

run = record.load("staircase-cifar10")
gammas, s0 = run.arrays["gammas"][0, :10], run.arrays["s0"][0]
lr = run.meta["config"]["rate"] / gammas[0]
theory = dynamics.closed_form(run.runs[0].t, gammas, s0, lr=lr)

# Fixed ids and no date: the same picture is the same file.
plt.rcParams.update({"svg.hashsalt": "staircase", "svg.fonttype": "path"})
figure = plots.figure_staircase(
    theory, run.runs[0], step_times=run.arrays["predicted"][0]
)
figure.axes[1].set_xlim(1.5e-3, 0.5)
figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})
