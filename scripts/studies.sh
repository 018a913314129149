# Sourced by the studies, with $study set.
#
# A study may be stopped and called again: it skips finished fleets. An interrupted fleet starts again, and its earlier records are
# kept beside it. At its end a study puts all its runs into one table, results/studies/$study.csv.gz, which src/plot.py reads.
#
#   [SEEDS="1 2"] bash scripts/study_NAME.sh [FLEET ...]     e.g. SEEDS="1 2" bash scripts/study_pac_men.sh 'eoi-*-alpha-0.01' qmix-long
#
# FLEET is a name or a pattern of names; by default all fleets run.
set -eu
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1
wanted=("${@:-*}")

keep() { # FOLDER: renames it, to a free name that src/plot.py skips when it looks for runs
    local kept=${1%/*}/_${1##*/}.cut count=1
    while [ -e "$kept" ]; do
        count=$((count + 1))
        kept=${1%/*}/_${1##*/}.cut-$count
    done
    mv -- "$1" "$kept"
}

fleet() { # NAME ARGS...: runs one fleet over $seeds, in its own folder
    local numbers=${SEEDS:-${seeds:-1 2 3 4 5}}
    local folder=results/studies/$study/$1/seeds-${numbers// /-}
    local pattern asked=no
    for pattern in "${wanted[@]}"; do
        # shellcheck disable=SC2053 # a pattern on purpose
        [[ $1 != $pattern ]] || asked=yes
    done
    [ $asked = yes ] || return 0
    [ ! -e "$folder/finished" ] || return 0
    [ ! -e "$folder" ] || keep "$folder" # the fleet was interrupted
    echo "$1"
    bash run.sh python src/main.py "${@:2}" save_interval=0 "local_results_path=$folder" "fleet.seeds=[${numbers// /,}]"
    touch "$folder/finished"
}

export_table() { # puts all runs of the study into one table, those of earlier calls too
    local runs=results/studies/$study
    [ ! -d "$runs" ] || bash run.sh python src/export.py "$runs" --out "$runs.csv.gz"
}
