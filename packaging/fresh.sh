#!/usr/bin/env bash
# Run all tests as on a machine that never ran them: in a clone of what is committed, with empty
# folders for temporary files and an empty home. Arguments are another command than `make test`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
clone=$root/build/fresh/farann
rm -rf "$root/build/fresh"
mkdir -p "$root/build/fresh/home" "$root/build/fresh/tmp"
git clone --quiet "$root" "$clone"
test $# -gt 0 || set -- make test

# A Python that lives in the home, as those of pyenv do, must not be hidden with it.
python=$(realpath "$(command -v "${PYTHON:-python3}")")
hidden=$HOME
case $python in "$HOME"/*) hidden= ;; esac

# In the namespace: the clone moves out of the folders that will be hidden.
# shellcheck disable=SC2016  # the inner shell expands it
inside='
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/farann /mnt/home
mount --bind "$1" /mnt/farann
for folder in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 none "$folder"; done
test ! -d "$2" || mount -t tmpfs none "$2"
cd /mnt/farann
shift 2
HOME=/mnt/home TMPDIR=/tmp exec "$@"'

own_mounts() { "$@" mount -t tmpfs none /mnt 2>/dev/null; }
if own_mounts unshare --mount; then
    exec unshare --mount bash -euc "$inside" fresh "$clone" "$hidden" "$@"
elif own_mounts unshare --user --map-root-user --mount; then
    exec unshare --user --map-root-user --mount bash -euc "$inside" fresh "$clone" "$hidden" "$@"
fi
echo "There is no mount namespace to be had: /tmp and /var/tmp stay as they are, but HOME and TMPDIR" \
     "are new, empty folders. As root, or where users may have namespaces, all of them are empty."
cd "$clone"
HOME=$root/build/fresh/home TMPDIR=$root/build/fresh/tmp exec "$@"
