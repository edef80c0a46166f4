# Sourced by the scripts beside it. Nothing outside the build folder is changed, but for Debian packages that are asked for.

root=$(cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../.." && pwd)
out=${FIRMWARE_OUT:-$root/target/firmware}
all_machines=(aarch64 riscv64)

fail() {
    echo "firmware-images: $*" >&2
    exit 1
}

# The machine of a name, as the kernel's and QEMU's people write it.
machine_of() {
    case $1 in
    aarch64 | arm64) echo aarch64 ;;
    riscv64 | riscv64gc) echo riscv64 ;;
    *) fail "unknown machine $1; known: ${all_machines[*]}" ;;
    esac
}

# What its programs are built for.
target_of() {
    case $1 in
    aarch64) echo aarch64-unknown-linux-musl ;;
    riscv64) echo riscv64gc-unknown-linux-musl ;;
    esac
}

# One line that changes when what goes into something changes: the digest of files and words.
# stamp_of FILE… -- WORD…
stamp_of() {
    local files=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        files+=("$1")
        shift
    done
    { cat "${files[@]}" && echo "$@"; } | sha256sum | cut -d' ' -f1
}
