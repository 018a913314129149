#!/usr/bin/env bash
# Figure 8: EOI+QMIX with and without regularisers, from different and from the same initial weights.
# Call it again to continue. Further words are passed to the batch, such as -j 8, --on ray, or with t_max=60000.
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

runs() { # WORDS...
    bash run.sh batch --config eoi_qmix --env-config pac_men --seeds 5 --vary same_init=False,True --vary eoi.beta1=0.04 --vary eoi.beta2=0.1 "$@"
    bash run.sh batch --config eoi_qmix --env-config pac_men --seeds 5 --vary same_init=False,True --vary eoi.beta1=0 --vary eoi.beta2=0 "$@"
}

runs "$@"
mapfile -t folders < <(runs --list "$@")
bash run.sh python src/plot.py "${folders[@]}" --by name,same_init,eoi.beta1,eoi.beta2 --out results/figures/figure_08.png
