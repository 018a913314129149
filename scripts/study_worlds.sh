#!/usr/bin/env bash
# The table of docs/worlds.md: what QMIX and MAAC do on each geometry that was tried.
study=worlds
. "$(dirname -- "${BASH_SOURCE[0]}")/studies.sh"

maac() { # NAME ARGS...: over the temperature
    fleet "maac-$1" --config=maac "${@:2}" 'fleet.vary={"reward_scale": [30, 100, 300]}'
}
windy() { # NAME ARGS...
    fleet "qmix-windy-$1" --config=qmix --env-config=windy_maze with "${@:2}"
    maac "windy-$1" --env-config=windy_maze with "${@:2}"
}
windy stem-2-arm-4 env_args.stem=2 env_args.arm=4
windy stem-2-arm-4-wide env_args.stem=2 env_args.arm=4 env_args.wind_from=-1
windy stem-1-arm-6 env_args.stem=1 env_args.arm=6
windy stem-1-arm-6-wide env_args.stem=1 env_args.arm=6 env_args.wind_from=-1
windy stem-3-arm-4 env_args.stem=3 env_args.arm=4

fleet qmix-firefighters --config=qmix --env-config=firefighters with
maac firefighters --env-config=firefighters with
