# kazoo, a ZooKeeper client in Python, in a virtual environment that is kept. After common.sh.
cache=${COMPAT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tripod-compat}

# kazoo_python: makes $kazoo a Python that has kazoo; false, with the reason in $work/pip, where it cannot be had.
kazoo_python() {
  kazoo=$cache/venv/bin/python
  mkdir -p "$cache"
  { command -v python3 && { [ -x "$kazoo" ] || python3 -m venv "$cache/venv"; } &&
    { "$kazoo" -c 'import kazoo' || "$cache/venv/bin/pip" install -q kazoo==2.11.0; }; } >"$work/pip" 2>&1
}
