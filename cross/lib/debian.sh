# Sourced by the set-up scripts of cross and firmware-images: Debian packages that are missing. `fail` is theirs.

# absent PACKAGE:FILE…: prints the packages whose file is not there.
absent() {
    local pair
    for pair in "$@"; do
        [ -e "${pair#*:}" ] || echo "${pair%%:*}"
    done
}

# install_packages CHECK WHY PACKAGE…: installs them as root or by sudo, if there are any; with CHECK not empty it only says which.
# WHY is what else may be wrong when they cannot be had.
install_packages() {
    local check=$1 why=$2 as_root=()
    shift 2
    [ $# -gt 0 ] || return 0
    local want="apt-get install --no-install-recommends $*"
    [ -z "$check" ] || fail "missing: $*; get them by: $want"
    command -v apt-get >/dev/null || fail "no apt-get here; this needs Debian 12's $*"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || fail "missing: $*; run as root: $want"
        as_root=(sudo -n)
    fi
    echo "installing $*"
    get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >/dev/null; }
    get install -y --no-install-recommends "$@" || { get update && get install -y --no-install-recommends "$@"; } ||
        fail "cannot install $*: no network, or $why"
}
