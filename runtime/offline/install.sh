#!/bin/sh
# Install koboshi from this kit, without a network:  sh install.sh [FOLDER]
# FOLDER is where the virtual environment goes, by default ~/.local/opt/koboshi. KOBOSHI_HOME is honoured.
set -eu

kit=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-$HOME/.local/opt/koboshi}
wanted=$(cat "$kit/python-version")
python=$(command -v "python$wanted" || command -v python3 || true)
fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

[ -n "$python" ] || fail "there is no Python here" "Install Python $wanted."
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$wanted" ] || fail "this kit is for Python $wanted, and $python is $found" "Install Python $wanted beside it."

# llama.cpp was compiled for the processor that the kit was made on: elsewhere it would end with an illegal instruction.
while read -r flag; do
    grep -qw -- "$flag" /proc/cpuinfo || fail "this processor lacks $flag, which the kit's llama.cpp uses" \
        "Run make bundle on a machine like this one."
done < "$kit/cpu-flags"

cd "$kit"
sha256sum --check --quiet SHA256SUMS || fail "a file of the kit is not the one that was packed" "Copy the kit anew."
[ ! -e "$folder" ] || [ -e "$folder/pyvenv.cfg" ] || fail "$folder is there, and is no virtual environment" \
    "Name another: sh install.sh FOLDER"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip --isolated install --quiet --disable-pip-version-check \
    --no-index --no-deps --require-hashes --requirement requirements.txt
"$folder/bin/python" -m pip --isolated --disable-pip-version-check check
PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS="$kit/model" "$folder/bin/koboshi" models add
echo "Installed. Try: $folder/bin/koboshi doctor"
