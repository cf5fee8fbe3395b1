"""Generated messages and stubs of ``elicense.v1``; made at build by ``protos/codegen.py``."""
