# Sourced by the studies, with $study set: what is finished is not run again, so that a study may be stopped and called anew.
#
#   [SEEDS="1 2"] bash scripts/study_NAME.sh [FLEET ...]     e.g. SEEDS="1 2" bash scripts/study_pac_men.sh qmix-every-20
#
# Without names all fleets run.
set -eu
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1
wanted=" $* "

fleet() { # NAME ARGS...: one fleet over $seeds, in a folder of its own
    local numbers=${SEEDS:-${seeds:-1 2 3 4 5}}
    local folder=results/studies/$study/$1/seeds-${numbers// /-}
    [[ $wanted == "  " || $wanted == *" $1 "* ]] || return 0
    [ ! -e "$folder/finished" ] || return 0
    rm -rf "$folder" # of a fleet that was cut
    echo "$1"
    bash run.sh python src/main.py "${@:2}" save_interval=0 "local_results_path=$folder" "fleet.seeds=[${numbers// /,}]"
    touch "$folder/finished"
}
