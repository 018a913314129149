#!/usr/bin/env bash
# Figure 5: position maps of QMIX and EOI+QMIX in Pac-Men.
# Call it again to continue. Further words are passed to the batch, such as -j 8, --on ray, or with t_max=60000.
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

runs() { # WORDS...
    bash run.sh batch --config qmix,eoi_qmix --env-config pac_men --seeds 1 "$@"
}

runs "$@"
mapfile -t folders < <(runs --list "$@")
bash run.sh python src/plot.py --heatmap "${folders[@]}" --out results/figures/figure_05.png
