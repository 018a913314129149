#!/usr/bin/env bash
# Figure 10, right: QMIX and EOI+QMIX on StarCraft's 8m.
# Call it again to continue. Further words are passed to the batch, such as -j 8, --on ray, or with t_max=60000.
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

runs() { # WORDS...
    bash run.sh batch --config qmix,eoi_qmix --env-config sc2 --seeds 3 "$@"
}

runs "$@"
mapfile -t folders < <(runs --list "$@")
bash run.sh python src/plot.py "${folders[@]}" --metric test_battle_won_mean --out results/figures/figure_10_right.png
