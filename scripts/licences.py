"""Reads `cargo metadata` and fails on a licence or a source that is not on the lists below."""

import json
import re
import sys

# Permissive licences only. Data licences are for tables (root certificates, Unicode).
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def allowed(expression: str) -> bool:
    """Evaluates an SPDX expression: OR needs one side, AND needs both; the old form `A/B` means OR."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either() -> bool:
        result = both()
        while words and words[0] == "OR":
            words.pop(0)
            result = both() or result
        return result

    def both() -> bool:
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            result = one() and result
        return result

    def one() -> bool:
        if words[0] == "(":
            words.pop(0)
            result = either()
            if not words or words.pop(0) != ")":
                raise ValueError(f"unbalanced: {expression}")
            return result
        name = words.pop(0)
        if words[:1] == ["WITH"]:
            name = " ".join([name, words.pop(0), words.pop(0)])
        return name in ALLOWED

    result = either()
    if words:
        raise ValueError(f"cannot be read: {expression}")
    return result


def main() -> int:
    # The check checks itself first: a list that lets everything through is no check.
    for expression, expected in [("GPL-3.0", False), ("MIT OR GPL-3.0", True), ("MIT AND GPL-3.0", False),
                                 ("(MIT OR GPL-2.0) AND ISC", True), ("MIT/Apache-2.0", True)]:
        assert allowed(expression) is expected, expression

    packages = [p for p in json.load(sys.stdin)["packages"] if p["source"] is not None]
    faults = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["source"] != REGISTRY:
            faults.append(f"{name} comes from {package['source']}")
        if not package["license"] or not allowed(package["license"]):
            faults.append(f"{name} has the licence {package['license']}")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"Licences: {len(packages)} crates, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
