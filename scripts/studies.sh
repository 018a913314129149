# Sourced by the studies, with $study set. A study may be stopped and called anew: finished fleets are not run again, a cut one starts again
# and what it had is kept beside it.
#
#   [SEEDS="1 2"] bash scripts/study_NAME.sh [FLEET ...]     e.g. SEEDS="1 2" bash scripts/study_pac_men.sh 'eoi-*-alpha-0.01' qmix-long
#
# FLEET is a name or a pattern of names; without any all fleets run.
set -eu
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1
export MALLOC_TRIM_THRESHOLD_=536870912 MALLOC_MMAP_THRESHOLD_=536870912 # a stack's temporaries are used again at once: keep their pages
wanted=("${@:-*}")

keep() { # FOLDER: moves it beside itself, under a free name that src/plot.py passes over when it looks for runs
    local kept=${1%/*}/_${1##*/}.cut count=1
    while [ -e "$kept" ]; do
        count=$((count + 1))
        kept=${1%/*}/_${1##*/}.cut-$count
    done
    mv -- "$1" "$kept"
}

fleet() { # NAME ARGS...: one fleet over $seeds, in a folder of its own
    local numbers=${SEEDS:-${seeds:-1 2 3 4 5}}
    local folder=results/studies/$study/$1/seeds-${numbers// /-}
    local pattern asked=no
    for pattern in "${wanted[@]}"; do
        # shellcheck disable=SC2053 # a pattern on purpose
        [[ $1 != $pattern ]] || asked=yes
    done
    [ $asked = yes ] || return 0
    [ ! -e "$folder/finished" ] || return 0
    [ ! -e "$folder" ] || keep "$folder" # of a fleet that was cut
    echo "$1"
    bash run.sh python src/main.py "${@:2}" save_interval=0 "local_results_path=$folder" "fleet.seeds=[${numbers// /,}]"
    touch "$folder/finished"
}
