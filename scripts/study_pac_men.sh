#!/usr/bin/env bash
# The study of docs/studies/pac-men.md: plain QMIX over what the paper leaves open, then every form of EOI over alpha, a fleet each. What is
# finished is not run again, so the script may be stopped and called anew.
#
#   [SEEDS="1 2"] bash scripts/study_pac_men.sh [FLEET ...]     e.g. eoi-recomputed-raw; all of them when none is named
set -eu
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1
SEEDS=${SEEDS:-1 2 3 4 5}
seeds=[${SEEDS// /,}]
wanted=" $* "

fleet() { # NAME ARGS...: one fleet, in a folder of its own
    local folder=results/studies/pac_men/$1/seeds-${SEEDS// /-}
    [[ $wanted == "  " || $wanted == *" $1 "* ]] || return 0
    [ ! -e "$folder/finished" ] || return 0
    rm -rf "$folder" # of a fleet that was cut
    echo "$1"
    bash run.sh python src/main.py --env-config=pac_men "${@:2}" "local_results_path=$folder" "fleet.seeds=$seeds"
    touch "$folder/finished"
}

dots='"env_args.dots_per_room": [3, 6, 8, 10]'
for interval in 20 15; do # steps an update; 15: two an episode
    fleet "qmix-every-$interval" --config=qmix with "update_interval=$interval" "fleet.vary={$dots, \"epsilon_finish\": [0.05, 0.1]}"
    fleet "qmix-every-$interval-one-start" --config=qmix with "update_interval=$interval" env_args.distinct_starts=False "fleet.vary={$dots}"
    fleet "qmix-every-$interval-unseen" --config=qmix with "update_interval=$interval" env_args.see_others=False "fleet.vary={$dots}"
done

alphas='fleet.vary={"eoi.alpha": [0.001, 0.003, 0.01, 0.03, 0.05, 0.2]}'
for source in recomputed stored; do
    for input in raw normalised; do
        fleet "eoi-$source-$input" --config=eoi_qmix with "eoi.q_source=$source" "eoi.q_input=$input" "$alphas"
    done
done
fleet eoi-centred --config=eoi_qmix with eoi.centred=True "$alphas"
fleet eoi-projected --config=eoi_qmix with eoi.project=True "$alphas"
fleet eoi-warmed-up --config=eoi_qmix with eoi.alpha_warmup=150000 "$alphas"
fleet eoi-annealed --config=eoi_qmix with eoi.alpha_anneal=150000 "$alphas"
fleet eoi-explore --config=eoi_explore_qmix with 'fleet.vary={"eoi.episode_ratio": [0.1, 0.2, 0.4]}'
