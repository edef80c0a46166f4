# Sourced by the scripts beside it. Nothing outside the build folder is changed, but for Debian packages that are asked for.

root=$(cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../.." && pwd)
out=${CROSS_OUT:-$root/target/cross}
tools=$out/tools

all_targets=(aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf riscv64gc-unknown-linux-musl x86_64-unknown-linux-musl)

fail() {
    echo "cross: $*" >&2
    exit 1
}

# The whole name of a target from a short one.
target_of() {
    case $1 in
    aarch64 | arm64) echo aarch64-unknown-linux-musl ;;
    armv7 | armv7hf | armhf) echo armv7-unknown-linux-musleabihf ;;
    riscv64 | riscv64gc) echo riscv64gc-unknown-linux-musl ;;
    x86_64 | amd64) echo x86_64-unknown-linux-musl ;;
    *)
        local known
        for known in "${all_targets[@]}"; do
            if [ "$1" = "$known" ]; then
                echo "$known"
                return
            fi
        done
        fail "unknown target $1; known: aarch64, armv7, riscv64, x86_64 (${all_targets[*]})"
        ;;
    esac
}

# Debian's name of a target's architecture.
debian_of() {
    case $1 in
    aarch64-*) echo arm64 ;;
    armv7-*) echo armhf ;;
    riscv64gc-*) echo riscv64 ;;
    x86_64-*) echo amd64 ;;
    esac
}

# The emulator of a target's programs; nothing where this machine runs them itself.
emulator_of() {
    local machine
    machine=$(uname -m)
    case $1 in
    "$machine"-*) ;;
    aarch64-*) echo qemu-aarch64-static ;;
    armv7-*) echo qemu-arm-static ;;
    riscv64gc-*) echo qemu-riscv64-static ;;
    x86_64-*) echo qemu-x86_64-static ;;
    esac
}

# use_toolchain PROFILE: cargo is from now on the one that builds for other machines.
use_toolchain() {
    # Debian's compiler, not rustup's; the tools first, so that zig's python3 is found.
    export PATH=$tools/bin:/usr/bin:/bin:/usr/sbin:/sbin
    # build-std is for nightly; the standard library is of exactly this compiler, so it is safe here.
    export RUSTC_BOOTSTRAP=1
    # A panic ends the program and nothing reads the unwind tables of a stripped one: an eighth of its size.
    export RUSTFLAGS='-C link-self-contained=no -C force-unwind-tables=no'
    unset CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS RUSTC RUSTC_WRAPPER
    # No path of this machine gets into the binaries.
    export "CARGO_PROFILE_${1^^}_TRIM_PATHS=all"
}
