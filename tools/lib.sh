# shellcheck shell=bash
# What the scripts of this directory share: to install what is missing. Sourced by them, never run.
#
# Each script has a `say` of its own for what it is doing.

is_root() { [ "$(id -u)" = 0 ]; }

# Installs Debian packages, with fresh lists where those at hand do not do. Shows what was printed only if that fails.
apt_install() {
    local log install=(apt-get install -y -q --no-install-recommends "$@")
    log=$(mktemp)
    DEBIAN_FRONTEND=noninteractive "${install[@]}" >"$log" 2>&1 ||
        { apt-get update -q >>"$log" 2>&1 && DEBIAN_FRONTEND=noninteractive "${install[@]}" >>"$log" 2>&1; } ||
        { tail -n 20 "$log" >&2 && rm -f "$log" && return 1; }
    rm -f "$log"
}

# A C compiler, make and curl.
need_build_tools() {
    local absent=() program
    for program in cc make curl; do
        command -v "$program" >/dev/null || absent+=("$program")
    done
    [ ${#absent[@]} -gt 0 ] || return 0
    if is_root && command -v apt-get >/dev/null; then
        say "Installing build tools: ${absent[*]} missing"
        apt_install build-essential ca-certificates curl
    else
        echo "missing: ${absent[*]}; install a C compiler, make and curl, or run this as root" >&2
        exit 1
    fi
}

# Rust, as new as Cargo.toml wants it.
need_rust() {
    local wanted found
    # shellcheck source=/dev/null
    [ ! -r "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | cut -d ' ' -f 2 || true)
    if [ "$(printf '%s\n' "$wanted" "${found:-0}" | sort -V | head -n 1)" != "$wanted" ]; then
        if command -v rustup >/dev/null; then
            say "Rust ${found:-is missing}, and $wanted is needed: updating the stable toolchain"
            rustup -q toolchain install --profile minimal stable
            export RUSTUP_TOOLCHAIN=stable
        else
            say "Installing Rust $wanted or later through rustup, into $HOME/.cargo and $HOME/.rustup"
            if ! curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
                sh -s -- -y -q --profile minimal --no-modify-path; then
                echo "Rust could not be installed from sh.rustup.rs; install Rust $wanted or later and run this again" >&2
                exit 1
            fi
            export PATH="$HOME/.cargo/bin:$PATH"
        fi
    fi
}

need_rust_components() {
    local component
    for component in "$@"; do
        if ! cargo "${component#rust}" --version >/dev/null 2>&1; then
            say "Installing $component"
            rustup -q component add "$component"
        fi
    done
}

# The programs of the newest PostgreSQL server on this machine, 15 or later: their directory, or failure.
server_bin() {
    local dir major best='' newest=14
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin "$(pg_config --bindir 2>/dev/null || true)"; do
        if [ ! -x "$dir/initdb" ] || [ ! -x "$dir/postgres" ]; then continue; fi
        major=$("$dir/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
        if [ "$major" -gt "$newest" ]; then
            best=$dir newest=$major
        fi
    done
    [ -n "$best" ] && printf '%s' "$best"
}
