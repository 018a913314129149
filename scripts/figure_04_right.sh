#!/usr/bin/env bash
# Figure 4, right: QMIX, and EOI on it without regularisers, with either and with both, in Pac-Men.
# Call it again to continue. Further words are passed to the batch, such as -j 8, --on ray, or with t_max=60000.
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

runs() { # WORDS...
    bash run.sh batch --config qmix --env-config pac_men --seeds 5 "$@"
    bash run.sh batch --config eoi_qmix --env-config pac_men --seeds 5 --vary eoi.beta1=0,0.04 --vary eoi.beta2=0,0.1 "$@"
}

runs "$@"
mapfile -t folders < <(runs --list "$@")
bash run.sh python src/plot.py "${folders[@]}" --by name,eoi.beta1,eoi.beta2 --out results/figures/figure_04_right.png
