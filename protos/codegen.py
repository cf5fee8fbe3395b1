"""Generate the protobuf stubs: the only place that calls protoc.

The stubs are made at build time and never committed, so their minimum runtime
versions are always those of the generator that is installed.  Run by hand with
``python -m protos.codegen``; ``pip install`` runs it through :class:`BuildPy`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "protos"
RULES_PROTO = "buf/validate/validate.proto"


class CodegenError(RuntimeError):
    """protoc refused a proto file; its own message is on standard error."""


def own_protos() -> list[str]:
    """Return the project's proto files, relative to the proto root, sorted."""
    return sorted(p.relative_to(PROTO_ROOT).as_posix() for p in (PROTO_ROOT / "elicense").rglob("*.proto"))


def _rules_descriptor() -> bytes:
    """Return a FileDescriptorSet with the validation rules' proto and what it imports.

    The rules' proto text is not in the validation library's wheel, but its
    descriptor is, and protoc takes descriptors as imports.
    """
    from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
    from protovalidate._gen.buf.validate import validate_pb

    described = descriptor_pb2.FileDescriptorSet()
    described.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(described.file.add())
    return described.SerializeToString()


def _protoc(arguments: Sequence[str], targets: Sequence[str]) -> None:
    from grpc_tools import protoc

    well_known = files("grpc_tools") / "_proto"
    # googleapis-common-protos installs into the google namespace package, so
    # its proto root is the folder that holds that package.
    import google.rpc

    common = Path(google.rpc.__path__[0]).parent.parent
    with tempfile.TemporaryDirectory() as scratch:
        rules = Path(scratch, "rules.binpb")
        rules.write_bytes(_rules_descriptor())
        command = ["protoc", f"--descriptor_set_in={rules}", f"-I{PROTO_ROOT}", f"-I{well_known}", f"-I{common}"]
        if protoc.main([*command, *arguments, *targets]) != 0:
            raise CodegenError("protoc failed; see the messages above")


def generate(out: Path) -> None:
    """Write the Python stubs of every proto below the folder ``out``.

    Raises:
        CodegenError: protoc refused a file.
    """
    out.mkdir(parents=True, exist_ok=True)
    _protoc([f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"], own_protos())
    _protoc([f"--python_out={out}", f"--pyi_out={out}"], [RULES_PROTO])


def describe(out: Path) -> None:
    """Write one descriptor set with comments and imports, for linters, to the file ``out``.

    Raises:
        CodegenError: protoc refused a file.
    """
    _protoc(["--include_imports", "--include_source_info", f"--descriptor_set_out={out}"], own_protos())


class BuildPy(build_py):
    """``build_py`` that generates the stubs first, beside the sources and in the wheel."""

    def run(self) -> None:
        """Generate, then build as usual."""
        generate(ROOT)
        super().run()
        if not self.editable_mode:
            for pattern in ("elicense/v1/*_pb2*", "buf/validate/*_pb2*"):
                for stub in ROOT.glob(pattern):
                    target = Path(self.build_lib, stub.relative_to(ROOT))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(stub, target)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "describe":
        describe(Path(sys.argv[2]))
    elif len(sys.argv) == 1:
        generate(ROOT)
    else:
        sys.exit("usage: python -m protos.codegen [describe FILE]")
