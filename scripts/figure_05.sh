#!/usr/bin/env bash
# Figure 5: where the agents of QMIX and of EOI+QMIX spend their time in Pac-Men.
# Call it again to go on. Further words go to the batch: -j 8, --on ray, with t_max=60000.
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

runs() { # WORDS...
    bash run.sh batch --config qmix,eoi_qmix --env-config pac_men --seeds 1 "$@"
}

runs "$@"
mapfile -t folders < <(runs --list "$@")
bash run.sh python src/plot.py --heatmap "${folders[@]}" --out results/figures/figure_05.png
