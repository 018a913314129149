#!/usr/bin/env bash
# Installs StarCraft II 4.10 for Linux, SMAC's maps and SMAC, where pysc2 expects them. No root
# needed; every step may be repeated.
#
# The game's archive is checked by its own checksums, and its SHA-256 is recorded after the first
# complete download. SMAC and its maps come from one commit of its repository, which git checks.
# Python packages go to the active virtual environment, else to this project's.
set -eu
unset CDPATH

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
game=${SC2PATH:-$HOME/StarCraftII}
case $game in /*) ;; *) game=$PWD/$game ;; esac
archive=SC2.4.10.zip
url=http://blzdistsc2-a.akamaihd.net/Linux/$archive
smac_url=https://github.com/oxwhirl/smac.git
smac_commit=d6aab33f76abc3849c50463a8592a84f59a5ef84
downloads=${SC2_DOWNLOADS:-$game.downloads}
licence=https://blzdistsc2-a.akamaihd.net/AI_AND_MACHINE_LEARNING_LICENSE.html

usage() {
    cat <<END
usage: bash install_sc2.sh [game] [maps] [smac]        without words: all three

    game    StarCraft II 4.10 (about 4 GB to download) to SC2PATH: $game
    maps    SMAC's maps to SC2PATH/Maps/SMAC_Maps
    smac    requirements-sc2.txt and SMAC, to the Python environment

The game is Blizzard's. Its archive opens with a password by which you agree to Blizzard's AI and
Machine Learning License ($licence).
The script asks for the password; without a terminal, set SC2_EULA to it.
SC2_SHA256, if set, is the required SHA-256 of the archive. Archives are in
$downloads
(SC2_DOWNLOADS names another folder) and may be deleted afterwards.
END
}

say() { printf 'install_sc2.sh: %s\n' "$*" >&2; }

die() { # STATUS WORDS...
    say "${*:2}"
    exit "$1"
}

need() { # PROGRAMS...
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || die 2 "$program is needed: install it, and call again"
    done
}

load() { # URL FILE; continues an interrupted download
    [ ! -e "$2" ] || return 0
    say "loading $1 ..."
    if command -v curl >/dev/null; then
        curl -fL --retry 3 -C - -o "$2.part" "$1"
    else
        need wget
        wget -c -O "$2.part" "$1"
    fi || die 1 "could not load $1; the next call continues (if it always fails, delete $2.part)"
    mv -- "$2.part" "$2"
}

verify() { # FILE: against SC2_SHA256, and against the recorded SHA-256
    local found before
    found=$(sha256sum <"$1" | cut -d ' ' -f 1)
    before=$(cat -- "$1.sha256" 2>/dev/null || printf '%s' "$found")
    [ "$found" = "$before" ] ||
        die 1 "$1 has changed since its download (SHA-256 $found, it was $before):" \
            "delete it and $1.sha256, and call again"
    [ "$found" = "${SC2_SHA256:-$found}" ] ||
        die 1 "$1 has SHA-256 $found, not SC2_SHA256=$SC2_SHA256"
    printf '%s\n' "$found" >"$1.sha256"
}

password() { # prints the password that the user enters
    local given=${SC2_EULA-}
    if [ -z "$given" ]; then
        [ -t 0 ] ||
            die 2 "Blizzard's licence has to be accepted: see --help, and set SC2_EULA to its password"
        printf "Blizzard's AI and Machine Learning License is at %s\n" "$licence" >&2
        printf "By typing the password 'iagreetotheeula' you agree to it: " >&2
        read -r given
    fi
    printf '%s' "$given"
}

install_game() {
    local given binary unpacked=$downloads/unpacked
    for binary in "$game"/Versions/Base*/SC2_x64; do
        [ "$(head -c 2 -- "$binary" 2>/dev/null)" != '#!' ] ||
            die 2 "$game contains this project's server: set SC2PATH to another folder"
    done
    if [ ! -e "$game/.unfinished" ] && compgen -G "$game/Versions/Base*/SC2_x64" >/dev/null; then
        say "StarCraft II is in $game already"
        return
    fi
    need unzip sha256sum
    given=$(password) || exit
    mkdir -p -- "$downloads"
    load "$url" "$downloads/$archive"
    verify "$downloads/$archive"
    rm -rf -- "$unpacked"
    say "unpacking ..."
    unzip -q -P "$given" -d "$unpacked" "$downloads/$archive" </dev/null ||
        die 1 "$archive could not be unpacked: a wrong password (SC2_EULA), a full disk," \
            "or a damaged file (then delete it)"
    compgen -G "$unpacked/StarCraftII/Versions/Base*/SC2_x64" >/dev/null ||
        die 1 "$archive does not contain the game"
    mkdir -p -- "$game"
    : >"$game/.unfinished"
    cp -al -- "$unpacked/StarCraftII/." "$game/" 2>/dev/null ||
        cp -a -- "$unpacked/StarCraftII/." "$game/" || die 1 "$game: not copied as a whole"
    rm -f -- "$game/.unfinished"
    rm -rf -- "$unpacked"
    for binary in "$game"/Versions/Base*/SC2_x64; do
        chmod +x -- "$binary"
    done
    say "StarCraft II is in $game"
}

fetch_smac() { # SMAC at its commit
    local source=$downloads/smac
    [ "$(git -C "$source" rev-parse HEAD 2>/dev/null)" != "$smac_commit" ] || return 0
    need git
    rm -rf -- "$source"
    mkdir -p -- "$source"
    say "loading SMAC ..."
    git -C "$source" init -q
    git -C "$source" fetch -q --depth 1 "$smac_url" "$smac_commit" ||
        die 1 "could not load $smac_commit of $smac_url; call again"
    git -C "$source" checkout -q FETCH_HEAD
}

install_maps() {
    fetch_smac
    mkdir -p -- "$game/Maps/SMAC_Maps"
    cp -- "$downloads"/smac/smac/env/starcraft2/maps/SMAC_Maps/*.SC2Map "$game/Maps/SMAC_Maps/"
    say "SMAC's maps are in $game/Maps/SMAC_Maps"
}

install_smac() {
    fetch_smac
    pip install -r "$root/requirements-sc2.txt"
    pip install --no-deps "$downloads/smac" # it requires a protobuf too old for pysc2
    say "SMAC is installed"
}

pip() {
    if [ -n "${VIRTUAL_ENV-}" ]; then
        "$VIRTUAL_ENV/bin/python" -m pip "$@"
    else
        bash "$root/run.sh" python -m pip "$@"
    fi || die 1 "pip $* failed"
}

[ $# -gt 0 ] || set -- game maps smac
for step in "$@"; do
    case $step in
    -h | --help) usage && exit 0 ;;
    game | maps | smac) ;;
    *) usage >&2 && exit 2 ;;
    esac
done
for step in "$@"; do
    "install_$step"
done
[ "$game" = "$HOME/StarCraftII" ] ||
    say "so that pysc2 and this project find the game: export SC2PATH=$game"
say "python src/doctor.py checks the installation"
