#!/bin/sh
# Set-up for the Makefile, on a machine that may have nothing yet.
#   setup.sh base VENV          a virtual environment with what a sidecar needs
#   setup.sh all VENV           the same with everything for development, and kubecarp itself
#   setup.sh programs NAME...   programs from Debian's packages, where they are missing
#   setup.sh go                 Go from Debian's packages, if they have one that is new enough
# As root it installs Debian packages; otherwise it says which are missing. Python packages come from requirements.lock, hashes checked.
set -eu

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

say() { echo "setup: $*" >&2; }

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install_packages() {
    say "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    # RUNLEVEL: the programs are wanted, not the services that some packages would start.
    export RUNLEVEL=1
    apt-get update -qq && apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" >/dev/null
}

package_of() {
    case $1 in
        /usr/lib/cni/*) echo containernetworking-plugins ;;
        ip | tc) echo iproute2 ;;
        unshare) echo util-linux ;;
        ping) echo iputils-ping ;;
        nft) echo nftables ;;
        ps) echo procps ;;
        mkfs.ext4) echo e2fsprogs ;;
        promtool) echo prometheus ;;
        *) echo "$1" ;;
    esac
}

# promtool alone: the package would start a server.
install_promtool() {
    folder=$(mktemp -d)
    say "installing promtool out of Debian's package prometheus"
    (cd "$folder" && apt-get update -qq && apt-get download -qq prometheus >/dev/null && dpkg -x prometheus_*.deb .) &&
        install "$folder/usr/bin/promtool" /usr/local/bin/promtool
    status=$?
    rm -rf "$folder"
    return $status
}

ensure_programs() {
    packages=
    for program in "$@"; do
        command -v "$program" >/dev/null && continue
        if [ "$program" = promtool ] && can_install && install_promtool; then
            continue
        fi
        packages="$packages $(package_of "$program")"
    done
    [ -n "$packages" ] || return 0
    # shellcheck disable=SC2086  # a list of words
    if can_install && install_packages $packages; then
        return 0
    fi
    say "not installed:$packages. What needs them cannot run. On Debian or Ubuntu: sudo apt-get install$packages"
}

ensure_go() {
    can_install || return 0
    apt-get update -qq
    # Go before 1.21 cannot fetch the newer one that Kubernetes is written for. Debian 12 has such a one, its backports do not.
    for release in "$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")-backports" ""; do
        candidate=$(LC_ALL=C apt-cache ${release:+-t "$release"} policy golang-go 2>/dev/null | sed -n 's/^ *Candidate: //p')
        if dpkg --compare-versions "${candidate:-0}" ge 2:1.21 2>/dev/null; then
            install_packages ${release:+-t "$release"} golang-go
            return
        fi
    done
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

make_venv() {
    "$1/bin/python" -m pip --version >/dev/null 2>&1 && return
    if ! python=$(find_python); then
        if ! can_install || ! install_packages python3 python3-venv || ! python=$(find_python); then
            say "Python 3.11 or newer with its venv module is missing. On Debian 12 or Ubuntu 24.04 and later: sudo apt-get install python3 python3-venv"
            exit 1
        fi
    fi
    say "making $1 with $("$python" --version)"
    "$python" -m venv --clear "$1"
}

install_python_packages() {
    say "installing Python packages from requirements.lock into $1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$2"
}

case $1 in
    programs)
        shift
        ensure_programs "$@"
        ;;
    go)
        ensure_go
        ;;
    base)
        make_venv "$2"
        "$2/bin/python" tests/closure.py >"$2/base.lock"
        install_python_packages "$2" "$2/base.lock"
        touch "$2/.base"
        ;;
    all)
        make_venv "$2"
        install_python_packages "$2" requirements.lock
        "$2/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
        touch "$2/.base" "$2/.all"
        ;;
esac
