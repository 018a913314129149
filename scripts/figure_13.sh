#!/usr/bin/env bash
# Figure 13: QMIX and EOI+QMIX in the easy Pac-Men, where all dots lie in one room.
# Call it again to continue. Further words are passed to the batch, such as -j 8, --on ray, or with t_max=60000.
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

runs() { # WORDS...
    bash run.sh batch --config qmix,eoi_qmix --env-config pac_men_easy --seeds 5 "$@"
}

runs "$@"
mapfile -t folders < <(runs --list "$@")
bash run.sh python src/plot.py "${folders[@]}" --out results/figures/figure_13.png
