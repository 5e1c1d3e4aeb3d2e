"""Loops to C99: one self-contained file a program, for microcontrollers and for everything else with a C compiler.

    print_program(program) -> str    the whole .c file
    print_header(program)  -> str    declarations of its public functions

The C has no undefined behaviour (a test compiles it with sanitizers), no heap, no recursion, and compiles
without warnings under `-std=c99 -Wall -Wextra -Wconversion -pedantic`. Locals of kernels lie on the stack.
"""

from lithe.codegen.c.program import print_header as print_header
from lithe.codegen.c.program import print_program as print_program
