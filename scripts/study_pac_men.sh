#!/usr/bin/env bash
# The study of docs/studies/pac-men.md: plain QMIX over the settings that the paper leaves open, then every form of EOI over alpha,
# one fleet each.
study=pac_men
. "$(dirname -- "${BASH_SOURCE[0]}")/studies.sh"

dots='"env_args.dots_per_room": [3, 6, 8, 10]'
for interval in 20 15; do # steps an update; 15: two an episode
    qmix=(--config=qmix --env-config=pac_men with "update_interval=$interval")
    fleet "qmix-every-$interval" "${qmix[@]}" "fleet.vary={$dots, \"epsilon_finish\": [0.05, 0.1]}"
    fleet "qmix-every-$interval-one-start" "${qmix[@]}" env_args.distinct_starts=False "fleet.vary={$dots}"
    fleet "qmix-every-$interval-unseen" "${qmix[@]}" env_args.see_others=False "fleet.vary={$dots}"
done

eoi() { # NAME ARGS...
    local alpha
    for alpha in 0.001 0.003 0.01 0.03 0.05 0.2; do
        fleet "eoi-$1-alpha-$alpha" --config=eoi_qmix_literal --env-config=pac_men with "${@:2}" "eoi.alpha=$alpha"
    done
}
for source in recomputed stored; do
    for input in raw normalised; do
        eoi "$source-$input" "eoi.q_source=$source" "eoi.q_input=$input"
    done
done
eoi centred eoi.intrinsic=centred
eoi projected eoi.project=True
eoi warmed-up eoi.alpha_warmup=150000
eoi annealed eoi.alpha_anneal=150000
eoi stored-annealed eoi.q_source=stored eoi.alpha_anneal=150000
fleet eoi-one-start-3 --config=eoi_qmix_literal --env-config=pac_men with env_args.dots_per_room=3 env_args.distinct_starts=False \
    'fleet.vary={"eoi.alpha": [0.001, 0.003]}'
fleet eoi-explore --config=eoi_explore_qmix --env-config=pac_men with 'fleet.vary={"eoi.episode_ratio": [0.1, 0.2, 0.4]}'

fleet qmix-long --config=qmix --env-config=pac_men with t_max=600000
fleet eoi-long --config=eoi_qmix_literal --env-config=pac_men with t_max=600000 eoi.alpha=0.003

export_table
