"""Tells a class that a checkpoint may name from a call that only an attack makes.

Nothing is ever called either way. The distinction is for the user: a file that would run a shell
command in ``torch.load`` must be refused by name, a file that mentions ``argparse.Namespace`` or
the trainer's own classes must be read.
"""

from __future__ import annotations

import sys

from edgeface.errors import UnsafeCheckpointError
from edgeface_export.checkpoints.nodes import GlobalName
from edgeface_export.checkpoints.text import clip, words

__all__ = ["refuse_dangerous_call"]

# Names of the standard library in Python 2, on Windows, or in some supported version only.
_OTHER_STANDARD_MODULES = words(
    "__builtin__ asynchat asyncore cPickle cStringIO commands copy_reg distutils exceptions "
    "httplib imp nt ntpath pipes popen2 posix posixpath smtpd urllib2"
)
# Third-party packages whose callables load code or run commands.
_CODE_LOADERS = words(
    "IPython cloudpickle dill execnet invoke joblib jsonpickle pexpect pip pkg_resources "
    "requests setuptools sh urllib3"
)
# Callables of any package, by the last part of their name.
_DANGEROUS_NAMES = words(
    "Popen __import__ check_output compile eval exec execfile getoutput import_module load "
    "load_inline load_library loads open popen read_pickle run_module run_path runstring system "
    "unpickle urlopen urlretrieve"
)
# Standard modules that only hold values.
_VALUE_MODULES = words(
    "_codecs argparse array collections copy_reg copyreg dataclasses datetime decimal enum "
    "fractions ipaddress itertools numbers pathlib pathlib._local random re string time typing "
    "uuid "
    "zoneinfo"
)
# Names that are values, in standard modules that also hold more than values. ``getattr`` and
# ``partial`` appear in whole modules (bound methods, layer factories); using their result as a
# function is refused by the machine.
_VALUE_NAMES: dict[str, frozenset[str]] = {
    "builtins": words(
        "Ellipsis NotImplemented bool bytearray bytes complex dict float frozenset getattr int "
        "list long object range set slice str tuple type unicode xrange"
    ),
    "functools": frozenset({"partial"}),
    "logging": frozenset({"Logger", "RootLogger", "getLogger"}),
    "types": frozenset({"MappingProxyType", "SimpleNamespace"}),
}


def refuse_dangerous_call(target: GlobalName) -> None:
    """Return if ``target`` may be the class of a value.

    Raises:
        UnsafeCheckpointError: It is a function that runs code or commands, opens files or
            connections, or it belongs to a part of Python that no checkpoint needs.
    """
    if _is_dangerous(target):
        raise UnsafeCheckpointError(
            f"calls {clip(target)}; nothing was run, but the file is built to attack whoever "
            "loads it: delete it"
        )


def _is_dangerous(target: GlobalName) -> bool:
    package = target.module.partition(".")[0]
    parts = target.name.split(".")
    if package in _CODE_LOADERS or parts[-1] in _DANGEROUS_NAMES:
        return True
    if _is_standard(package):
        return len(parts) > 1 or not _is_value(target)
    # A dotted name walks attributes: "os.system" of torch.serialization is os.system.
    return any(_is_standard(part) for part in parts[:-1])


def _is_standard(package: str) -> bool:
    return package in sys.stdlib_module_names or package in _OTHER_STANDARD_MODULES


def _is_value(target: GlobalName) -> bool:
    module = "builtins" if target.module == "__builtin__" else target.module
    if module in _VALUE_NAMES:
        return target.name in _VALUE_NAMES[module]
    return module in _VALUE_MODULES
