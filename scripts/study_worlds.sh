#!/usr/bin/env bash
# The table of docs/worlds.md: what QMIX and MAAC do on each geometry that was tried.
study=worlds
. "$(dirname -- "${BASH_SOURCE[0]}")/studies.sh"

both() { # NAME WORLD ARGS...
    fleet "qmix-$1" --config=qmix "--env-config=$2" with "${@:3}"
    fleet "maac-$1" --config=maac "--env-config=$2" with "${@:3}" 'fleet.vary={"reward_scale": [100, 1000]}'
}
both windy-stem-1-arm-6 windy_maze env_args.stem=1 env_args.arm=6
both windy-stem-2-arm-4 windy_maze env_args.stem=2 env_args.arm=4
both windy-stem-3-arm-4 windy_maze env_args.stem=3 env_args.arm=4
both firefighters firefighters
