#!/usr/bin/env bash
# The study of docs/worlds.md: QMIX and MAAC on each geometry that was tried.
study=worlds
. "$(dirname -- "${BASH_SOURCE[0]}")/studies.sh"

both() { # NAME WORLD ARGS...
    fleet "qmix-$1" --config=qmix "--env-config=$2" with "${@:3}"
    fleet "maac-$1" --config=maac "--env-config=$2" with "${@:3}" 'fleet.vary={"reward_scale": [100, 1000]}'
}
for geometry in "1 6 0" "2 4 0" "2 4 -1" "3 4 0" "3 4 -1"; do
    read -r stem arm wind <<<"$geometry"
    both "windy-stem-$stem-arm-$arm-wind-from-$wind" windy_maze "env_args.stem=$stem" "env_args.arm=$arm" "env_args.wind_from=$wind"
done
both firefighters firefighters

export_table
