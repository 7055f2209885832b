# shellcheck shell=bash
# Sourced by bin/gov (when its environment is not ready), bin/test and bin/lock, with $checkout set.
# `environment NAME LOCK` makes the environment of requirements/LOCK.txt and sets $python.
# Written for bash 3.2, which macOS still ships.
# shellcheck disable=SC2154,SC2034 # $checkout comes from the caller, $python goes to it
set -eu

fail() { # ERROR HINT [LOG]
  printf 'error: %s\n' "$1" >&2
  if [ -s "${3:-}" ]; then tail -n 15 "$3" | sed 's/^/  /' >&2; fi
  printf '\nhint: %s\n' "$2" >&2
  exit 1
}

environment() { # NAME LOCK
  local lock=$checkout/requirements/$2.txt
  place_environment "$1" "$lock"
  python=$place/bin/python
  if is_current "$lock"; then return; fi
  # Sets $base and $version; a subshell could not stop us with its own words.
  find_python
  printf 'comfygov: preparing its environment (once) ...\n' >&2
  make_alone "$lock"
}

# Beside the code, unless that cannot be written or holds an environment that somebody else made.
place_environment() { # NAME LOCKFILE: sets place, source_line and guard
  place=$checkout/$1
  # Relative to site-packages, so that a checkout can be moved and copied.
  source_line=../../../../src
  # Locked itself: it is there, and a lock file of its own would litter the checkout.
  guard=$2
  if [ -w "$checkout" ] && [ -w "$2" ] && { [ ! -e "$place" ] || [ -f "$place/comfygov.stamp" ]; }; then return; fi
  if is_current "$2"; then return; fi

  local cache=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
  if [ -z "$cache" ]; then
    fail "no place for an environment: \`$place\` cannot be used and \`HOME\` is not set" \
      "set \`XDG_CACHE_HOME\` to a folder that can be written"
  fi
  local hash
  hash=$(printf '%s' "$checkout" | cksum)
  place=$cache/comfygov/env${1#.venv}-${hash%% *}
  source_line=$checkout/src
  guard=$place.lock
}

is_current() { # LOCKFILE
  local made wanted
  [ -x "$place/bin/python" ] && [ -r "$place/comfygov.stamp" ] &&
    read -r made <"$place/comfygov.stamp" && read -r wanted <"$1" && [ "$made" = "$wanted" ]
}

runs_well() { # PYTHON: sets version. A pyenv shim is a file that may run nothing, so it is started.
  version=$("$1" -I -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 10))' \
    2>/dev/null </dev/null)
}

find_python() {
  if [ -n "${COMFYGOV_PYTHON:-}" ]; then
    base=$COMFYGOV_PYTHON
    if runs_well "$base"; then return; fi
    fail "\`COMFYGOV_PYTHON\` is \`$base\`, which does not run as Python 3.10 or later" \
      "set it to the path of one, or unset it"
  fi
  for base in python3 python3.13 python3.12 python3.11 python3.10; do
    if runs_well "$base"; then return; fi
  done
  fail "no Python 3.10 or later was found" \
    "install one, or set \`COMFYGOV_PYTHON\` to the path of one"
}

# A kernel lock ends with the processes that hold it: no stale lock to judge by a pid that may be another's by now.
make_alone() { # LOCKFILE
  local parent=${place%/*} locked=
  if ! mkdir -p "$parent" 2>/dev/null || [ ! -w "$parent" ]; then
    fail "\`$parent\` cannot be written" "set \`XDG_CACHE_HOME\` to a folder that can be written"
  fi
  exec 9<>"$guard"
  # Some network file systems have no locks: the renames below are safe without, only the work is done twice.
  if "$base" -I -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 2>/dev/null; then locked=1; fi
  if ! is_current "$1"; then
    if [ -n "$locked" ]; then rm -rf "$place".new.*; fi
    # A subshell: the traps and the changed variables must not reach the command.
    (build "$1" "$place.new.$$")
  fi
  exec 9>&-
}

build() { # LOCKFILE WORK
  local made=$2/env log=$2/log
  work=$2 # not local: the trap outlives the function
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  mkdir -p "$work"
  forget_settings
  cd "$checkout" || exit
  fill "$1" "$made" "$log"
  local site
  for site in "$made"/lib/*/site-packages; do printf '%s\n' "$source_line" >"$site/comfygov.pth"; done
  local stamp
  read -r stamp <"$1"
  printf '%s\n' "$stamp" >"$made/comfygov.stamp"
  swap_in "$made" "$work/old"
}

swap_in() { # NEW OLD
  # `mv` would move into a folder that is there; rename refuses.
  "$base" -I - "$@" "$place" <<'END'
import contextlib, os, sys
new, old, place = sys.argv[1:]
with contextlib.suppress(FileNotFoundError):
    os.rename(place, old)
os.rename(new, place)
END
}

# Where packages come from stays the user's choice; where they go and which they are is ours.
forget_settings() {
  local name
  for name in ${!PIP_*} ${!UV_*} ${!PYTHON*}; do
    case $name in
      *INDEX* | *FIND_LINKS | *CERT* | *TLS* | *PROXY | *HOST* | *TIMEOUT | *RETRIES) ;;
      *CACHE_DIR | *CONFIG_FILE | *KEYRING* | *CREDENTIALS* | *OFFLINE) ;;
      *) unset "$name" ;;
    esac
  done
  unset VIRTUAL_ENV __PYVENV_LAUNCHER__
  if [ -n "${PIP_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"; fi
}

fill() { # LOCKFILE ENV LOG
  local lock=$1 made=$2 log=$3
  if "$base" -I -m venv "$made" >"$log" 2>&1 </dev/null; then
    install_with "$log" "$made/bin/python" -I -m pip install --quiet --no-input --disable-pip-version-check \
      --no-user --require-hashes --requirement "$lock"
  elif uv --version >/dev/null 2>&1; then
    rm -rf "$made"
    install_with "$log" uv venv --quiet --no-project --python "$base" "$made"
    install_with "$log" uv pip sync --quiet --require-hashes --compile-bytecode --python "$made/bin/python" "$lock"
  elif "$base" -I -c 'import ensurepip, venv' >/dev/null 2>&1; then
    fail "\`$base -m venv\` failed in \`${place%/*}\`" "see to what it says above, then start again" "$log"
  else
    fail "\`$base\` (Python $version) cannot make an environment" \
      "install the package \`python$version-venv\` (Debian, Ubuntu), or put \`uv\` on the PATH; then start again" "$log"
  fi
}

install_with() { # LOG COMMAND...
  local log=$1
  shift
  if "$@" >"$log" 2>&1 </dev/null; then return; fi
  fail "the packages of comfygov's environment could not be installed" \
    "see that PyPI, or the index that pip is set to (\`PIP_INDEX_URL\`, \`PIP_PROXY\`), can be reached; then start again" \
    "$log"
}
