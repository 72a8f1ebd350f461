# Sourced by every suite's run.sh: fetches what the suite needs, once, into target/compat-tests/.
#
# Each step holds a lock while it works and leaves a stamp made of the files that pin its versions, so it runs
# again exactly when those change. A step that cannot be done ends the suite with the command that would do it.
# Environment: CARGO_TARGET_DIR (default: target/ of the workspace).
set -euo pipefail
suites=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CARGO_TARGET_DIR:-$suites/../target}/compat-tests
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# once NAME FUNCTION FILE...: run FUNCTION unless it has already run with these very files.
once() {
  local name=$1 step=$2 stamp; shift 2
  stamp=$(cat "$@" | sha256sum | cut -c1-16)
  [[ -e $cache/$name.stamp && $(<"$cache/$name.stamp") == "$stamp" ]] && return
  (
    flock 9
    [[ -e $cache/$name.stamp && $(<"$cache/$name.stamp") == "$stamp" ]] && exit
    echo "setting up $name, see $cache/$name.log" >&2
    rm -f "$cache/$name.stamp"
    if ! (set -e; "$step") >"$cache/$name.log" 2>&1; then
      tail -n 15 "$cache/$name.log" >&2
      echo "setting up $name failed" >&2
      exit 1
    fi
    echo "$stamp" >"$cache/$name.stamp"
  ) 9>"$cache/$name.lock"
}

# packages NAME...: Debian packages; installed when we may, else the command is named.
packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  if [[ $(id -u) -ne 0 ]]; then
    echo "missing packages, run: sudo apt-get install -y ${missing[*]}" >&2
    return 1
  fi
  (
    flock 9
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y --no-install-recommends "${missing[@]}" >"$cache/apt.log" 2>&1 ||
      { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$cache/apt.log" 2>&1 ||
      { tail -n 5 "$cache/apt.log"; echo "failed: apt-get install -y ${missing[*]}"; exit 1; } >&2
  ) 9>"$cache/apt.lock"
}

# command_from COMMAND PACKAGE: the command, from wherever it is installed, else from its Debian package.
command_from() { command -v "$1" >/dev/null || packages "$2"; }

# Python: one environment for the three Python suites and kill9.
python() { "$cache/python/bin/python" "$@"; }
make_python() {
  rm -rf "$cache/python"
  python3 -m venv "$cache/python" || { packages python3-venv && python3 -m venv "$cache/python"; }
  "$cache/python/bin/pip" install --disable-pip-version-check --no-deps -r "$suites/common/requirements.txt"
}
setup_python() {
  command_from python3 python3
  once python make_python "$suites/common/requirements.txt"
  export PYTHONPATH=$suites/common PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
}

# Maven: resolves the class path of the pom beside the suite into $cache/NAME.classpath.
class_path() { # NAME POM
  mvn -q -B -f "$2" dependency:build-classpath -Dmdep.outputFile="$cache/$1.classpath" -Dmdep.includeScope=runtime
}
setup_java() {
  command_from javac default-jdk-headless
  command_from mvn maven
}
