# Sourced by ./run and ./test, from the repository root. Sets $python to a Python that can
# set up the virtual environment, or ends the script with one sentence that says what is missing.

python=
too_old=
incomplete=
for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
    # A Python that is named counts alone: another one in its place would go unnoticed.
    [ "$candidate" = "${PYTHON:-$candidate}" ] || continue
    "$candidate" -c '' >/dev/null 2>&1 || continue
    if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        too_old="${too_old:+$too_old, }$("$candidate" -c 'import platform, sys; print(sys.executable, platform.python_version())')"
    elif ! "$candidate" -c 'import ensurepip, fcntl, ssl, venv' >/dev/null 2>&1; then
        incomplete="$candidate"
    else
        python="$candidate"
        break
    fi
done

if [ -z "$python" ]; then
    if [ -n "$incomplete" ]; then
        echo "$incomplete cannot make virtual environments: its venv, ensurepip or ssl module is missing (Debian and Ubuntu: apt install python3-venv)." >&2
    elif [ -n "$too_old" ]; then
        echo "Python 3.11 or later is needed, and only an older one was found ($too_old): install a newer one, or name it with PYTHON=/path/to/python3." >&2
    elif [ -n "${PYTHON:-}" ]; then
        echo "PYTHON=$PYTHON cannot be run: name a Python 3.11 or later by its path, or by a name on PATH." >&2
    else
        echo "Python 3.11 or later is needed, and no python3 was found on PATH: install it, or name it with PYTHON=/path/to/python3." >&2
    fi
    exit 1
fi
