"""Run the measurements, all or the named ones, one after the other, each in a process of its own.

make bench                                  all
make bench ARGS="mentions upload"           these
.venv/bin/python -m benchmarks.mentions --help
"""

import argparse
import pkgutil
import subprocess
import sys
from pathlib import Path


def claims() -> list[str]:
    """One module a claim; those that begin with `_` are shared."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in found if not name.startswith("_"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", nargs="*", help=", ".join(claims()))
    wanted = parser.parse_args().claim
    if unknown := set(wanted) - set(claims()):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(claims())}")
    failed = []
    for name in wanted or claims():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        print(f"could not be measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
