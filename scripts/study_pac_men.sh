#!/usr/bin/env bash
# The study of docs/studies/pac-men.md: plain QMIX over what the paper leaves open, then every form of EOI over alpha. What is finished
# is not run again, so the script may be stopped and called anew.  SEEDS="1 2" bash scripts/study_pac_men.sh [STAGE ...]
set -eu
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1
seeds=[$(echo "${SEEDS:-1 2 3 4 5}" | tr ' ' ,)]
alphas='{"eoi.alpha": [0.001, 0.003, 0.01, 0.03, 0.05, 0.2]}'

fleet() { # NAME ARGS...: one fleet, in a folder of its own
    local folder=results/studies/pac_men/$1
    [ -e "$folder/finished" ] && return
    rm -rf "$folder" # of a fleet that was cut
    echo "$1"
    bash run.sh python src/main.py --env-config=pac_men "${@:2}" "local_results_path=$folder" "fleet.seeds=$seeds"
    touch "$folder/finished"
}

for stage in "${@:-1 2}"; do
    case $stage in
    *1*)
        for interval in 20 15; do # steps an update; 15: two an episode
            for starts in True False; do
                fleet "qmix-every-$interval-starts-$starts" --config=qmix with "update_interval=$interval" "env_args.distinct_starts=$starts" \
                    'fleet.vary={"env_args.dots_per_room": [3, 6, 8, 10], "epsilon_finish": [0.05, 0.1]}'
            done
        done
        ;;&
    *2*)
        for input in raw normalised; do
            for source in recomputed stored; do
                fleet "eoi-$source-$input" --config=eoi_qmix with "eoi.q_input=$input" "eoi.q_source=$source" "fleet.vary=$alphas"
            done
        done
        fleet eoi-centred --config=eoi_qmix with eoi.centred=True "fleet.vary=$alphas"
        fleet eoi-projected --config=eoi_qmix with eoi.project=True "fleet.vary=$alphas"
        fleet eoi-warmed-up --config=eoi_qmix with eoi.alpha_warmup=150000 "fleet.vary=$alphas"
        fleet eoi-annealed --config=eoi_qmix with eoi.alpha_anneal=150000 "fleet.vary=$alphas"
        fleet eoi-explore --config=eoi_explore_qmix with 'fleet.vary={"eoi.episode_ratio": [0.1, 0.2, 0.4]}'
        ;;
    esac
done
