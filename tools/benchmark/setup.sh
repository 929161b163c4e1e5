#!/usr/bin/env bash
# What tools/bench measures with and against: run by it, and by hand only to look.
#
#   setup.sh server [LOCKS]   the bench's own PostgreSQL 17, started; prints its URL and its directory.
#                             LOCKS is max_locks_per_transaction: a server that runs with another is started anew
#   setup.sh peers            installs the other programs where they are missing; prints "name path" for those found
#   setup.sh pgtide           builds pgtide for release; prints its path
#   setup.sh down             stops the server; nothing is deleted
#   setup.sh wipe             stops it and deletes its data (not the programs)
#
# The server's programs are those of tools/testbed. Its data is apart from the test server's, because it is set up as a
# server is that has to keep something: it syncs what it commits. Autovacuum is off, so that what one run leaves to be
# vacuumed and analyzed does not fall into the time of the next. There are as many background workers as TimescaleDB
# wants. Everything else is PostgreSQL's default.
#
# Other programs come from PATH, or from the Debian release that the server is from, into a directory of their own.
#
#   PGTIDE_TESTBED, PGTIDE_TESTBED_MIRROR   as for tools/testbed
#   PGTIDE_BENCH_PORT                       TCP port of the server (default 56317)
set -euo pipefail

say() { printf 'bench: %s\n' "$*" >&2; }
tools=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tools/lib.sh
. "$tools/lib.sh"
# shellcheck source=tools/servers.sh
. "$tools/servers.sh"
kind=-bench
version=17
port=${PGTIDE_BENCH_PORT:-56317}
packages=(pgcopydb restic borgbackup)
programs=(pgcopydb restic borg)

running() { as_server "$version" pg_ctl status -s -D HOME_DIR/data >/dev/null 2>&1; }
locks() {
    "$testbed/bin/psql-$version" -XAtq -c 'show max_locks_per_transaction' "postgresql://postgres@127.0.0.1:$port/postgres"
}
stop() { ! running || as_server "$version" pg_ctl stop -s -w -m fast -D HOME_DIR/data; }

server() {
    local wanted=${1:-64} options
    place "$version" >/dev/null && [ -x "$testbed/bin/psql-$version" ] || "$tools/testbed" up "$version"
    create_cluster "$version"
    if running && [ "$(locks)" != "$wanted" ]; then stop; fi
    if ! running; then
        options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=HOME_DIR -c fsync=on"
        options+=" -c autovacuum=off -c max_locks_per_transaction=$wanted"
        if has_timescale "$(place "$version")" "$version"; then
            options+=" -c shared_preload_libraries=timescaledb -c timescaledb.telemetry_level=off"
            # Each database with the extension takes one for its scheduler, for which a restore waits.
            options+=" -c max_worker_processes=32"
        fi
        if ! as_server "$version" pg_ctl start -s -w -t 60 -D HOME_DIR/data -l HOME_DIR/log -o "$options" </dev/null >&2; then
            tail -n 5 "$(home_of "$version")/log" >&2
            return 1
        fi
    fi
    printf 'postgresql://postgres@127.0.0.1:%s/postgres %s\n' "$port" "$(home_of "$version")"
}

# Unpacks the packages, and what they need that the server's tree does not have, beside that tree, which stays as it is.
unpack() {
    local dir=$testbed/peers-$version
    say "unpacking ${packages[*]} from Debian $(debian "$version") into $dir (log: $dir.log)"
    rm -rf "$dir.new"
    mkdir -p "$dir.new"/apt/{etc/apt.conf.d,etc/preferences.d,lists/partial,cache/archives/partial}
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" \
        "$(debian "$version")" >"$dir.new/apt/etc/sources.list"
    cat >"$dir.new/apt/conf" <<CONF
Dir::Etc "$dir.new/apt/etc";
Dir::State "$dir.new/apt";
Dir::State::status "$(tree "$version")/var/lib/dpkg/status";
Dir::Cache "$dir.new/apt/cache";
APT::Sandbox::User "$(id -un)";
Debug::NoLocking "true";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
CONF
    (
        export APT_CONFIG=$dir.new/apt/conf
        apt-get -q update
        apt-get -q -y install --download-only --no-install-recommends "${packages[@]}"
        for package in "$dir.new"/apt/cache/archives/*.deb; do dpkg-deb -x "$package" "$dir.new"; done
    ) >"$dir.log" 2>&1 || { tail -n 5 "$dir.log" >&2; return 1; }
    rm -rf "$dir.new/apt"
    rm -rf "$dir"
    mv "$dir.new" "$dir"
}

# Starts what was unpacked with the tree's loader, and its own libraries before the tree's. pgcopydb runs the server's
# own clients by their plain names.
write_wrappers() {
    local dir=$testbed/peers-$version where loader libraries name
    where=$(tree "$version")
    loader=$(compgen -G "$where/lib*/ld-linux*.so.?" | head -n 1)
    libraries=$(compgen -G "$dir/usr/lib/*-linux-gnu*" | paste -sd:):$(compgen -G "$where/usr/lib/*-linux-gnu*" | paste -sd:)
    mkdir -p "$dir/bin"
    printf '#!/bin/sh\nexec %q --library-path %q --argv0 pgcopydb %q "$@"\n' "$loader" "$libraries" \
        "$dir/usr/bin/pgcopydb" >"$dir/bin/pgcopydb"
    printf '#!/bin/sh\nexec %q --library-path %q --argv0 restic %q "$@"\n' "$loader" "$libraries" \
        "$dir/usr/bin/restic" >"$dir/bin/restic"
    printf '#!/bin/sh\nPYTHONHOME=%q exec %q --library-path %q --argv0 %q %q %q "$@"\n' "$dir/usr" "$loader" "$libraries" \
        "$dir/usr/bin/python3" "$dir/usr/bin/python3" "$dir/usr/bin/borg" >"$dir/bin/borg"
    for name in pg_dump pg_restore psql; do ln -sf "$testbed/bin/$name-$version" "$dir/bin/$name"; done
    chmod 755 "$dir"/bin/*
}

peers() {
    local absent=() name path dir=$testbed/peers-$version
    for name in "${programs[@]}"; do command -v "$name" >/dev/null || absent+=("$name"); done
    if [ ${#absent[@]} -gt 0 ]; then
        if [ -n "$(place "$version" || true)" ]; then
            [ -d "$dir" ] || { [ -w "$testbed" ] && unpack; } || true
            [ ! -w "$dir" ] || write_wrappers
        elif is_root && command -v apt-get >/dev/null; then
            say "installing ${packages[*]} from this machine's packages"
            apt_install "${packages[@]}" >&2 || true
        fi
    fi
    for name in "${programs[@]}"; do
        path=$(PATH=$PATH:$dir/bin command -v "$name" || true)
        [ -z "$path" ] || printf '%s %s\n' "$name" "$path"
    done
    for name in pg_dump pg_restore psql; do
        path=$testbed/bin/$name-$version
        [ -x "$path" ] || path=$(command -v "$name" || true)
        [ -z "$path" ] || printf '%s %s\n' "$name" "$path"
    done
}

pgtide() {
    cd "$tools/.."
    need_build_tools >&2
    need_rust >&2
    cargo build --release --locked >&2
    printf '%s/release/pgtide\n' "$(cargo metadata --no-deps --format-version 1 --locked |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')"
}

wipe() {
    ! place "$version" >/dev/null || { stop && rm -rf "$(home_of "$version")"; }
    say "the bench's server and its databases are deleted"
}

down() {
    ! place "$version" >/dev/null || stop
}

case ${1:-} in
server | peers | pgtide | down | wipe) "$@" ;;
*) sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
