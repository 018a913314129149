#!/usr/bin/env bash
# Runs a command in this project's Python environment, after creating or updating it if necessary.
# The project's own commands are the programs of src/, named as in src/cli.py.
#
# The environment is .venv/ beside this file. After a complete installation a stamp is written: the
# folder, the Python and the requirements of the installation. Without a matching stamp, a call
# installs. After an interrupted installation, which leaves the file .unfinished, a call starts from
# an empty .venv, because pip does not repair a partly installed package.
set -eu
unset CDPATH PYTHONHOME

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
venv=$root/.venv

say() { printf 'run.sh: %s\n' "$*" >&2; }

die() { # STATUS WORDS...
    say "${*:2}"
    exit "$1"
}

usage() {
    cat <<'END'
usage: bash run.sh COMMAND ARGS...

Runs COMMAND in this project's Python environment (.venv, made by the first call).

    setup       only make the environment
    train       train, resume or evaluate a run
    batch       train many runs: algorithms x environments x seeds
    figure      make a figure of the paper, and judge its claims
    plot        draw learning curves and print tables
    report      make one HTML page of runs
    watch       play a trained team: text, film or page
    evaluate    test a trained team
    export      put the metrics of many runs into one table
    doctor      check this machine, and how to mend it
    sync        copy finished runs to MongoDB
    sc2-server  serve StarCraft II's API on the lite engine
    pytest      test the project
    docs        make the documentation site

Any other COMMAND is a program, such as python or pip. For example:

    bash run.sh train --config=eoi_qmix --env-config=windy_maze
    bash run.sh plot latest
    bash run.sh batch --config qmix,eoi_qmix --env-config pac_men --seeds 5 -j 8
    bash run.sh figure 4-right --seeds 5 -j 8
END
}

commands() { # their names in one line
    usage | sed -n 's/^    \([a-z0-9-]*\)  .*/\1/p' | paste -sd ' '
}

home() { # folder and Python of the environment; its scripts and packages work with no other
    printf '%s %s\n' "$venv" "$("$venv/bin/python" -V 2>/dev/null)"
}

wanted() { # FILE: the stamp of a complete installation of that requirements file
    home
    cat -- "$root/requirements.txt"
    [ "$1" = requirements.txt ] || cat -- "$root"/requirements-*.txt
}

is_complete() { # FILE
    [ ! -e "$venv/.unfinished" ] && [ -x "$venv/bin/python" ] && [ -e "$venv/.stamp-$1" ] &&
        [ "$(cat -- "$venv/.stamp-$1")" = "$(wanted "$1")" ]
}

usable() { # whether pip can update the environment without recreating it
    local stamp=$venv/.stamp-requirements.txt
    [ ! -e "$venv/.unfinished" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
        { [ ! -e "$stamp" ] || [ "$(head -n 1 -- "$stamp")" = "$(home)" ]; }
}

find_python() { # prints the path of a Python >= 3.11 outside .venv, which may be deleted
    local name search=:$PATH:
    PATH=${search//":$venv/bin:"/:}
    for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
        "$name" -c 'import sys; sys.version_info < (3, 11) and sys.exit(1); print(sys.executable)' \
            2>/dev/null && return
    done
    return 1
}

create() { # an empty environment; only the lock is kept
    find "$venv/" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf -- {} +
    : >"$venv/.unfinished"
    "$1" -m venv "$venv" >"$venv/.log" 2>&1 ||
        die 1 "$1 -m venv failed: $(tail -n 1 "$venv/.log")" \
            "(on Debian and Ubuntu, install python3-venv); then call again"
}

install() { # FILE
    : >"$venv/.unfinished"
    rm -f -- "$venv"/.stamp-*
    if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        --progress-bar off -r "$root/$1" </dev/null >"$venv/.log" 2>&1; then
        # If only a download failed, no package is partly installed.
        grep -q '^Installing collected' "$venv/.log" || rm -f -- "$venv/.unfinished"
        die 1 "could not install $1: $(why); the next call continues (pip's log: $venv/.log)"
    fi
    wanted requirements.txt >"$venv/.stamp-requirements.txt"
    [ "$1" = requirements.txt ] || wanted "$1" >"$venv/.stamp-$1"
    rm -f -- "$venv/.unfinished"
}

why() { # pip's last error in one line
    local said
    said=$(grep '^ERROR' "$venv/.log" | tail -n 1)
    [ -n "$said" ] || said=$(tail -n 1 "$venv/.log")
    if grep -qE 'Retrying|ConnectionError|ConnectTimeout|ReadTimeout|ProxyError' "$venv/.log"; then
        said="the package index cannot be reached (${said:-no answer})"
    fi
    printf '%s' "${said:-pip ended without a message}"
}

setup() { # FILE; one caller at a time if the system has flock
    local python
    { mkdir -p -- "$venv" && : >>"$venv/.lock"; } 2>/dev/null || die 1 "cannot write in $venv"
    exec 9>>"$venv/.lock"
    if command -v flock >/dev/null && ! flock -n 9; then
        say "waiting for another call that is setting up .venv ..."
        flock 9 || true
    fi
    if ! is_complete "$1"; then
        trap 'die 130 "interrupted; the next call sets up .venv again"' INT
        if usable; then
            say "bringing .venv up to date with $1 (to follow it: tail -f $venv/.log) ..."
        elif [ -L "$venv" ]; then # what is behind it is not ours to delete
            die 2 "$venv is a link to another folder's environment; remove the link and call again"
        else
            python=$(find_python) ||
                die 2 "Python 3.11 or newer is needed, and PATH has none: install it and call again"
            say "setting up .venv (once; some minutes, torch is large;" \
                "to follow it: tail -f $venv/.log) ..."
            create "$python"
        fi
        install "$1"
        trap - INT
    fi
    exec 9>&-
}

case ${1-} in
'') usage >&2 && exit 2 ;;
-h | --help) usage && exit 0 ;;
esac

case "${1##*/} ${2-} ${3-}" in
pytest\ * | ruff\ * | pyright\ * | lint-imports\ * | "bash .ci/run "* | "python -m pytest")
    needs=requirements-dev.txt
    ;;
docs\ *) needs=requirements-docs.txt ;;
*) needs=requirements.txt ;;
esac

program() { # NAME: the file of src/ without .py, or nothing
    case $1 in
    train) echo main ;;
    sc2-server) echo sc2_server ;;
    batch | figure | plot | report | watch | evaluate | export | doctor | sync) echo "$1" ;;
    esac
}

is_complete "$needs" || setup "$needs"
export VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH

case $1 in
setup) say ".venv is ready" && exit 0 ;;
docs) set -- python "$root/scripts/site.py" "${@:2}" ;;
esac
file=$(program "$1")
[ -z "$file" ] || set -- python "$root/src/$file.py" "${@:2}"

[[ $1 == */* ]] || type -P -- "$1" >/dev/null ||
    die 127 "$1: no such command; there are $(commands), and the programs of .venv and PATH"
exec -- "$@"
