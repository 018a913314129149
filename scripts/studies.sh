# Sourced by the studies, with $study set: what is finished is not run again, so that a study may be stopped and called anew.
#
#   [SEEDS="1 2"] bash scripts/study_NAME.sh [FLEET ...]     e.g. SEEDS="1 2" bash scripts/study_pac_men.sh 'eoi-*-alpha-0.01' qmix-long
#
# FLEET is a name or a pattern of names; without any all fleets run.
set -eu
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1
export MALLOC_TRIM_THRESHOLD_=536870912 MALLOC_MMAP_THRESHOLD_=536870912 # a stack's temporaries are used again at once: keep their pages
wanted=("${@:-*}")

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
    rm -rf "$folder" # of a fleet that was cut
    echo "$1"
    bash run.sh python src/main.py "${@:2}" save_interval=0 "local_results_path=$folder" "fleet.seeds=[${numbers// /,}]"
    touch "$folder/finished"
}
