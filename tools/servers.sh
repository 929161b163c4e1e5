# shellcheck shell=bash
# What tools/testbed and tools/suite share: where a version's server lives, and how its programs are run. Sourced by
# them, never run. A caller with clusters of its own sets `kind` to a word that is added to their directories' names.

testbed=${PGTIDE_TESTBED:-/var/tmp/pgtide-testbed}
mirror=${PGTIDE_TESTBED_MIRROR:-http://deb.debian.org/debian}
versions=(15 17 18)
kind=''

# The Debian release that has it.
debian() { case $1 in 15) echo bookworm ;; 17) echo trixie ;; 18) echo sid ;; esac; }
tree() { printf '%s' "$testbed/tree-$1"; }
host_bin() { printf '/usr/lib/postgresql/%s/bin' "$1"; }
has_timescale() { compgen -G "$1/usr/lib/postgresql/$2/lib/timescaledb-*.so" >/dev/null; }

# Where a version's server lives: "" is this machine, a path is a tree, and failure is nowhere.
place() {
    if [ -x "$(tree "$1")$(host_bin "$1")/postgres" ]; then
        tree "$1"
    elif [ -x "$(host_bin "$1")/postgres" ] && { [ "$1" = 15 ] || ! is_root || has_timescale "" "$1"; }; then
        echo ""
    else
        return 1
    fi
}

# The cluster's directory as this machine sees it; `inside` is where it is to the server.
home_of() {
    local where
    where=$(place "$1")
    if [ -n "$where" ]; then printf '%s/pgtide%s' "$where" "$kind"; else printf '%s/pg-%s%s' "$testbed" "$1" "$kind"; fi
}

inside() {
    if [ -n "$(place "$1")" ]; then printf '/pgtide%s' "$kind"; else home_of "$1"; fi
}

# Gives files to the server's user.
own() {
    local version=$1 where
    shift
    is_root || return 0
    where=$(place "$version")
    if [ -n "$where" ]; then chroot "$where" chown -R postgres: "$@"; else chown -R postgres: "$@"; fi
}

# Runs a program of a version's server, or one named by its path, as the server's user; `HOME_DIR` in an argument is
# the cluster's directory. In a tree the program gets a /proc and a /dev/shm in a mount namespace of its own, so nothing stays mounted
# and nobody who deletes the tree later deletes more than the tree.
as_server() {
    local version=$1 program=$2 where inside
    shift 2
    where=$(place "$version")
    inside=$(inside "$version")
    program=${program//HOME_DIR/$inside}
    case $program in /*) ;; *) program=$(host_bin "$version")/$program ;; esac
    local args=("${@//HOME_DIR/$inside}") run=(env -i "PATH=$(host_bin "$version"):/usr/bin:/bin" LC_ALL=C.UTF-8)
    run+=("$program" "${args[@]}")
    if [ -n "$where" ]; then
        # shellcheck disable=SC2016 # expanded by the inner shell
        unshare --mount -- sh -c '
            mount -t proc proc "$0/proc" 2>/dev/null
            mount -t tmpfs -o mode=1777 tmpfs "$0/dev/shm" 2>/dev/null
            cd / && exec chroot --userspec=postgres:postgres "$0" "$@"' "$where" "${run[@]}"
    elif is_root; then
        (cd / && exec runuser -u postgres -- "${run[@]}")
    else
        (cd / && exec "${run[@]}")
    fi
}

create_cluster() {
    local version=$1 home log=$testbed/initdb-$1$kind.log
    home=$(home_of "$version")
    if [ -d "$home/data" ] && ! is_root && [ ! -r "$home/data" ]; then
        say "the cluster in $home belongs to another user"
        return 1
    fi
    [ -s "$home/data/PG_VERSION" ] && return 0
    say "creating the cluster of $version in $home"
    rm -rf "$home"
    mkdir -p "$home"
    own "$version" "$(inside "$version")"
    as_server "$version" initdb -D HOME_DIR/data -U postgres --auth=trust --locale=C.UTF-8 --encoding=UTF8 \
        --no-sync >"$log" 2>&1 || { tail -n 5 "$log" >&2; return 1; }
    # Where the command line can override it: tools/bench measures with a server that syncs.
    printf 'fsync = off\n' >>"$home/data/postgresql.conf"
}
