#!/usr/bin/env bash
# The study of docs/studies/actor-critics.md: a search over plain MAAC and IPPO on Pac-Men, then every algorithm of the paper's figures 4, 11
# and 14 with the settings found.
study=actor_critics
. "$(dirname -- "${BASH_SOURCE[0]}")/studies.sh"

arm() { # ALGORITHM NAME ARGS...
    fleet "$2" "--config=$1" --env-config=pac_men with "${@:3}"
}

seeds=1
arm maac search-maac 'fleet.vary={"reward_scale": [10, 30, 100, 300, 1000, 3000, 10000]}'
arm maac search-maac-every-30 update_interval=30 'fleet.vary={"reward_scale": [10, 30, 100]}'
arm ippo search-ippo 'fleet.vary={"entropy_coef": [0.01, 0.03], "actor_lr": [3e-4, 1e-3]}'

seeds="1 2 3"
arm maac maac
for alpha in 0.005 0.05 0.1 0.2; do # 0.2: Table 1
    arm eoi_maac "eoi_maac-alpha-$alpha" "eoi.alpha=$alpha"
done
arm eoi_maac eoi_maac-regularisers eoi.alpha=0.02 'fleet.vary={"eoi.beta1": [0, 0.04], "eoi.beta2": [0, 0.1]}' # without, with one, with both
arm maac maac-long t_max=600000
arm eoi_maac eoi_maac-long eoi.alpha=0.02 t_max=600000
for weight in 0.001 0.01; do
    arm kl_maac "kl_maac-weight-$weight" "kl.weight=$weight"
done
arm ippo ippo
arm eoi_ippo eoi_ippo 'fleet.vary={"eoi.alpha": [0.02, 0.2]}'
arm qmix qmix
arm qmix qmix-lfo lfo.omega=0.2
for weight in True False; do
    arm eoi_qmix "eoi_qmix-lfo-weight-$weight" eoi.alpha=0.003 lfo.omega=0.2 "lfo.importance_weight=$weight"
done

export_table
